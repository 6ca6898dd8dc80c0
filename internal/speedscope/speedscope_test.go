package speedscope_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"
	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/profile/profiletest"
	"github.com/opscenter/opscenter/internal/speedscope"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func read(t testing.TB, p *pprof.Profile) *profile.Profile {
	t.Helper()
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	out, err := profile.Read(&b, profile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryTypeIsAProfile(t *testing.T) {
	main := &pprof.Function{ID: 1, Name: "main.main", Filename: "main.go"}
	bet := &pprof.Function{ID: 2, Name: "main.(*Room).Bet", Filename: "room.go"}
	lock := &pprof.Function{ID: 3, Name: "sync.(*Mutex).Lock", Filename: "mutex.go"}
	at := func(id uint64, lines ...pprof.Line) *pprof.Location {
		return &pprof.Location{ID: id, Address: id, Line: lines}
	}
	// Lock is inlined into Bet; the last location has no symbols.
	root, leaf, bare := at(1, pprof.Line{Function: main, Line: 9}), at(2, pprof.Line{Function: lock, Line: 45}, pprof.Line{Function: bet, Line: 12}), at(3)
	p := read(t, &pprof.Profile{
		SampleType:        []*pprof.ValueType{{Type: "contentions", Unit: "count"}, {Type: "delay", Unit: "nanoseconds"}},
		DefaultSampleType: "delay", Function: []*pprof.Function{main, bet, lock}, Location: []*pprof.Location{root, leaf, bare},
		Sample: []*pprof.Sample{{Location: []*pprof.Location{leaf, root}, Value: []int64{3, 700}}, {Location: []*pprof.Location{bare}, Value: []int64{0, 5}}},
	})
	var b bytes.Buffer
	if err := speedscope.Write(&b, p, `mutex.pprof of "game"`); err != nil {
		t.Fatal(err)
	}
	want := `{"$schema":"https://www.speedscope.app/file-format-schema.json","exporter":"OPS Center","name":"mutex.pprof of \"game\"","activeProfileIndex":1,` +
		`"shared":{"frames":[{"name":"main.main","file":"main.go","line":9},{"name":"main.(*Room).Bet","file":"room.go","line":12},{"name":"sync.(*Mutex).Lock","file":"mutex.go","line":45},{"name":"0x3"}]},` +
		`"profiles":[{"type":"sampled","name":"contentions","unit":"none","startValue":0,"endValue":3,"samples":[[0,1,2]],"weights":[3]},` +
		`{"type":"sampled","name":"delay","unit":"nanoseconds","startValue":0,"endValue":705,"samples":[[0,1,2],[3]],"weights":[700,5]}]}` + "\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func TestNothingIsLost(t *testing.T) {
	p := read(t, profiletest.Synthetic(profiletest.Shape{Samples: 2000, Functions: 100, MaxDepth: 20, Seed: 3}))
	var b bytes.Buffer
	if err := speedscope.Write(&b, p, "cpu.pprof"); err != nil {
		t.Fatal(err)
	}
	var f struct {
		Shared   struct{ Frames []any }
		Profiles []struct {
			Samples  [][]int
			Weights  []int64
			EndValue int64
		}
	}
	if err := json.Unmarshal(b.Bytes(), &f); err != nil {
		t.Fatal(err)
	}
	for typ, pr := range f.Profiles {
		var sum int64
		for i, w := range pr.Weights {
			sum += w
			for _, at := range pr.Samples[i] {
				if at < 0 || at >= len(f.Shared.Frames) {
					t.Fatalf("frame %d of %d", at, len(f.Shared.Frames))
				}
			}
		}
		if total := p.Total(typ); sum != total || pr.EndValue != total || len(pr.Samples) != len(pr.Weights) {
			t.Errorf("type %d: %d of %d", typ, sum, total)
		}
	}
}

type full struct{ room int }

var errFull = errors.New("the disk is full")

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestAWriterThatFails(t *testing.T) {
	p := read(t, profiletest.Synthetic(profiletest.Shape{Samples: 20_000, Functions: 100, MaxDepth: 20, Seed: 3}))
	if err := speedscope.Write(&full{room: 100_000}, p, "cpu.pprof"); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}
