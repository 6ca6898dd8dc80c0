package timeline_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/timeline"
	"github.com/opscenter/opscenter/internal/trace"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

// shelf opens artifacts out of memory.
type shelf struct {
	files map[string][]byte
	opens atomic.Int64
}

func (s *shelf) open(_ context.Context, ref ops.ArtifactRef) (ops.Blob, ops.Artifact, error) {
	s.opens.Add(1)
	b, ok := s.files[ref.Name]
	if !ok {
		return nil, ops.Artifact{}, ops.Errorf(ops.NotFound, "there is no artifact %s", ref)
	}
	a := ops.Artifact{Name: ref.Name, SHA256: fmt.Sprintf("%x", len(b)) + ref.Name}
	if ref.Name == "growing.out" {
		a.SHA256 = ""
	}
	return blob{bytes.NewReader(b)}, a, nil
}

func ref(name string) ops.ArtifactRef {
	return ops.ArtifactRef{Capture: "01capture", Instance: "01instance", Name: name}
}

func testTrace(t testing.TB, version string) []byte {
	t.Helper()
	b, err := os.ReadFile("../trace/testdata/go" + version + ".trace")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func timelines(t testing.TB, files map[string][]byte, cfg timeline.Config) (*timeline.Timelines, *shelf) {
	t.Helper()
	s := &shelf{files: files}
	cfg.Open, cfg.Dir, cfg.Workers = s.open, t.TempDir(), 1
	all := timeline.New(cfg)
	t.Cleanup(func() {
		if err := all.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	return all, s
}

// use calls fn with the timeline of one trace.
func use(t testing.TB, trace []byte, fn func(*timeline.View)) {
	t.Helper()
	all, _ := timelines(t, map[string][]byte{"trace.out": trace}, timeline.Config{})
	if err := all.Use(context.Background(), ref("trace.out"), nil, func(v *timeline.View) error { fn(v); return nil }); err != nil {
		t.Fatal(err)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it):\n%s", file, got)
	}
}

func TestOverviewsReadAsText(t *testing.T) {
	for _, version := range []string{"1.22.12", "1.26.8"} {
		use(t, testTrace(t, version), func(v *timeline.View) { golden(t, "overview-"+version+".txt", overview(v.Overview())) })
	}
}

func overview(o timeline.Overview) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v, GOMAXPROCS %d, %d goroutines, %d events, %d intervals, ready for p50 %v p99 %v max %v\n", o.Duration, o.Procs, o.Goroutines, o.Events, o.Intervals, o.P50, o.P99, o.Max)
	fmt.Fprintf(&b, "parts at %v\n", o.Generations)
	for _, g := range o.Groups {
		fmt.Fprintf(&b, "%d of %q, %d born, %d died:%s\n", g.Goroutines, g.Func, g.Born, g.Died, times(g.Times))
	}
	for _, p := range o.Ps {
		fmt.Fprintf(&b, "%s:%s\n", p.Name, times(p.Times))
	}
	for _, r := range o.GC {
		fmt.Fprintf(&b, "GC %v to %v\n", r.From, r.To)
	}
	for _, r := range o.STW {
		fmt.Fprintf(&b, "STW %v to %v: %s\n", r.From, r.To, r.Text)
	}
	for _, s := range o.Sites {
		b.WriteString(site(s))
	}
	if o.Loss != nil {
		fmt.Fprintln(&b, o.Loss.Message)
	}
	return b.String()
}

func times(x trace.Times) (s string) {
	for i, d := range x {
		if d > 0 {
			s += fmt.Sprintf(" %v %v", trace.State(i), d)
		}
	}
	return s
}

func site(s timeline.Site) string {
	at := "nowhere"
	for _, f := range s.Stack {
		if f.Own || at == "nowhere" {
			at = fmt.Sprintf("%s %s:%d", f.Function, filepath.Base(f.File), f.Line)
		}
		if f.Own {
			break
		}
	}
	return fmt.Sprintf("%v (%v) %d× %v, longest %v of G%d at %v: %s, of %q\n", s.State, s.Reason, s.Count, s.Total, s.Max, s.Longest, s.From, at, s.Group)
}

func TestTilesReadAsText(t *testing.T) {
	use(t, testTrace(t, "1.26.8"), func(v *timeline.View) {
		var b strings.Builder
		tracks := []timeline.Track{{Kind: trace.TrackProc}, {Kind: trace.TrackProc, ID: 1}}
		for _, g := range v.Overview().Groups {
			tracks = append(tracks, timeline.Track{Kind: trace.TrackGroup, Group: g.Func})
			list, _, err := v.Goroutines(t.Context(), g.Func, trace.NumStates, 1)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range list {
				tracks = append(tracks, timeline.Track{Kind: trace.TrackGoroutine, ID: int64(g.ID)})
			}
		}
		for _, q := range []timeline.TileQuery{{Level: 24, Columns: 4}, {Level: 20, Index: 1, Columns: 16}} {
			q.Tracks = tracks
			tile, err := v.Tile(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%v from %v, %d columns\n", time.Duration(q.Columns)<<q.Level, time.Duration(q.Index)*time.Duration(q.Columns)<<q.Level, q.Columns)
			for i, r := range tile.Rows {
				fmt.Fprintf(&b, "%v %d %s\n%s", q.Tracks[i].Kind, q.Tracks[i].ID, q.Tracks[i].Group, row(tile, r, q.Columns))
			}
		}
		golden(t, "tiles.txt", b.String())
	})
}

func row(tile timeline.Tile, r timeline.Row, columns int) string {
	var b strings.Builder
	num := func(s []byte, i int) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(s[8*i:])) }
	u16 := func(s []byte, i int) timeline.Stack { return tile.Stacks[binary.LittleEndian.Uint16(s[2*i:])] }
	leaf := func(s timeline.Stack) string {
		if len(s) == 0 {
			return ""
		}
		return " " + s[0].Function
	}
	for i, s := range r.State {
		fmt.Fprintf(&b, "\t%v %v %v %v%s who %v%s\n", time.Duration(num(r.From, i)), time.Duration(num(r.To, i)), trace.State(s), trace.Reason(r.Reason[i]), leaf(u16(r.Stack, i)), num(r.Goroutine, i), leaf(u16(r.WakerStack, i)))
	}
	for i, s := range r.ShareStates {
		fmt.Fprintf(&b, "\t%-9v %3d\n", trace.State(s), r.Shares[i*columns:(i+1)*columns])
	}
	for c := 0; c < len(r.Goroutines)/4; c++ {
		if c == 0 {
			b.WriteString("\tgoroutines")
		}
		fmt.Fprintf(&b, " %.2f", math.Float32frombits(binary.LittleEndian.Uint32(r.Goroutines[4*c:])))
		if c == columns-1 {
			b.WriteString("\n")
		}
	}
	return b.String()
}

func TestSelectionsAndGoroutinesReadAsText(t *testing.T) {
	use(t, testTrace(t, "1.26.8"), func(v *timeline.View) {
		var b strings.Builder
		end := v.Overview().Duration
		for _, g := range v.Overview().Groups {
			of := []timeline.Track{{Kind: trace.TrackGroup, Group: g.Func}}
			for _, w := range [][2]time.Duration{{0, end}, {end / 4, end / 2}} {
				s, err := v.Statistics(t.Context(), w[0], w[1], of)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "%q from %v to %v: %d goroutines, %d intervals,%s\n", g.Func, w[0], w[1], s.Goroutines, s.Intervals, times(s.Times))
				for _, x := range s.Sites {
					b.WriteString("\t" + site(x))
				}
			}
			list, total, err := v.Goroutines(t.Context(), g.Func, trace.NumStates, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range list {
				one, err := v.Goroutine(t.Context(), g.ID, -1)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "\tG%d of %d, %v to %v, born %v of G%d, %d intervals,%s\n", g.ID, total, one.Begin, one.End, one.Born, one.Creator, one.Intervals, times(one.Times))
				if iv := one.Interval; iv != nil {
					fmt.Fprintf(&b, "\t\t%v %v from %v to %v in %d calls, ended by G%d of %q in %d calls\n", iv.State, iv.Reason, iv.From, iv.To, len(iv.Stack), iv.Waker, iv.WakerGroup, len(iv.WakerStack))
				}
			}
		}
		golden(t, "selections.txt", b.String())
	})
}

func TestIntervalsAreFoundInBothDirections(t *testing.T) {
	use(t, testTrace(t, "1.26.8"), func(v *timeline.View) {
		for _, g := range v.Overview().Groups {
			for state := range trace.NumStates {
				if g.Times[state] == 0 {
					continue
				}
				track := timeline.Track{Kind: trace.TrackGroup, Group: g.Func}
				var forwards []timeline.Interval
				for at := -time.Nanosecond; ; {
					iv, err := v.Find(t.Context(), track, state, at, false)
					if err != nil {
						t.Fatal(err)
					}
					if iv == nil {
						break
					}
					if iv.From <= at || iv.State != state {
						t.Fatalf("after %v comes %+v", at, iv)
					}
					forwards, at = append(forwards, *iv), iv.From
				}
				back, at := 0, v.Overview().Duration
				for {
					iv, err := v.Find(t.Context(), track, state, at, true)
					if err != nil {
						t.Fatal(err)
					}
					if iv == nil {
						break
					}
					back, at = back+1, iv.From
				}
				if len(forwards) == 0 || back != len(forwards) {
					t.Errorf("%s has %d times %v forwards and %d backwards", g.Func, len(forwards), state, back)
				}
			}
		}
	})
}

func TestSearchFindsNumbersAndNames(t *testing.T) {
	use(t, testTrace(t, "1.26.8"), func(v *timeline.View) {
		list, _, err := v.Goroutines(t.Context(), v.Overview().Groups[0].Func, trace.NumStates, 1)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		for _, q := range []string{fmt.Sprint(list[0].ID), fmt.Sprintf(" G%d", list[0].ID)} {
			h, err := v.Search(t.Context(), q, 0)
			if err != nil || len(h.Goroutines) != 1 || h.Goroutines[0].ID != list[0].ID || h.GoroutineGroups[0] == "" {
				t.Errorf("%q finds %+v, %v", q, h, err)
			}
		}
		h, err := v.Search(t.Context(), "MAIN.", 3)
		if err != nil || len(h.Groups) == 0 || len(h.Groups) > 3 || len(h.Sites) == 0 {
			t.Errorf("main. finds %+v, %v", h, err)
		}
		if h, err := v.Search(t.Context(), "999999999", 0); err != nil || len(h.Goroutines)+len(h.Groups)+len(h.Sites) != 0 {
			t.Errorf("a goroutine that is not there: %+v, %v", h, err)
		}
	})
}

func TestWrongQuestionsSaySo(t *testing.T) {
	use(t, testTrace(t, "1.26.8"), func(v *timeline.View) {
		ctx := t.Context()
		ask := func(_ any, err error) error { return err }
		_, _, many := v.Goroutines(ctx, "main.main", 0, 1<<20)
		for want, err := range map[string]error{
			`no goroutine of this trace began with "nobody": choose a group of its overview`:      ask(v.Tile(ctx, timeline.TileQuery{Level: 20, Tracks: []timeline.Track{{Kind: trace.TrackGroup, Group: "nobody"}}})),
			"a tile of 300 tracks is too large: ask for at most 256 at once":                      ask(v.Tile(ctx, timeline.TileQuery{Tracks: make([]timeline.Track, 300)})),
			"a tile of 9999 columns cannot be drawn: ask for 1 to 4096":                           ask(v.Tile(ctx, timeline.TileQuery{Columns: 9999})),
			"there is no level 63: ask for 0 to 40":                                               ask(v.Tile(ctx, timeline.TileQuery{Level: 63})),
			"tile 7 is not within the trace: ask for 0 to 0":                                      ask(v.Tile(ctx, timeline.TileQuery{Level: 40, Index: 7})),
			"goroutine 77777 did nothing in this trace: search for one that did":                  ask(v.Goroutine(ctx, 77777, 0)),
			"a selection from 2ns to 1ns has no time in it: choose one that ends after it begins": ask(v.Statistics(ctx, 2, 1, nil)),
			"1048576 goroutines are too many to list: ask for 1 to 10,000":                        many,
			"there is no state 99: use one of the overview":                                       ask(v.Find(ctx, timeline.Track{Kind: trace.TrackProc}, 99, 0, false)),
			"200 hits are too many: ask for 1 to 100":                                             ask(v.Search(ctx, "x", 200)),
		} {
			if err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
	})
}

func TestWhatCannotBeShownSaysWhy(t *testing.T) {
	whole := testTrace(t, "1.26.8")
	all, _ := timelines(t, map[string][]byte{"trace.out": []byte("no trace at all"), "growing.out": whole, "cut.out": whole[:len(whole)-900]}, timeline.Config{})
	use := func(name string, fn func(*timeline.View) error) error {
		return all.Use(t.Context(), ref(name), nil, fn)
	}
	never := func(*timeline.View) error { return errors.New("it was shown") }
	if err := use("trace.out", never); ops.KindOf(err) != ops.Corrupt {
		t.Errorf("no trace: %v", err)
	}
	if err := use("missing.out", never); ops.KindOf(err) != ops.NotFound {
		t.Errorf("missing: %v", err)
	}
	if err := use("growing.out", never); ops.KindOf(err) != ops.Conflict || err.Error() != "growing.out is still being recorded: look again when the capture has ended" {
		t.Errorf("growing: %v", err)
	}
	if err := use("../trace.out", never); ops.KindOf(err) != ops.Invalid {
		t.Errorf("no name: %v", err)
	}
	// What is readable of a damaged one is shown, and the loss stated.
	if err := use("cut.out", func(v *timeline.View) error {
		if o := v.Overview(); o.Loss == nil || o.Loss.Message == "" || o.Events == 0 {
			t.Errorf("a cut trace of %d events lost %v", o.Events, o.Loss)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestATraceIsReadOnceForAllWhoAsk(t *testing.T) {
	all, _ := timelines(t, map[string][]byte{"trace.out": testTrace(t, "1.26.8")}, timeline.Config{})
	var wg sync.WaitGroup
	var views sync.Map
	var read atomic.Int64
	for range 8 {
		wg.Go(func() {
			if err := all.Use(t.Context(), ref("trace.out"), func(done, total int) { read.Add(int64(done / total)) }, func(v *timeline.View) error { views.Store(v, true); return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	views.Range(func(any, any) bool { n++; return true })
	if n != 1 || read.Load() != 1 {
		t.Errorf("%d views, read to the end %d times", n, read.Load())
	}
}

func TestWhoeverWaitsReadsWhenTheReaderLeaves(t *testing.T) {
	s := &shelf{files: map[string][]byte{"trace.out": testTrace(t, "1.26.8")}}
	leaving, leave := context.WithCancel(t.Context())
	reading, waiting := make(chan struct{}), make(chan struct{})
	all := timeline.New(timeline.Config{Open: s.open, Dir: t.TempDir(), Room: func(ctx context.Context, _ int64) error {
		if ctx == leaving {
			close(reading)
			<-waiting // the other one is on its way
			leave()
		}
		return ctx.Err()
	}})
	defer func() { _ = all.Close() }()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := all.Use(leaving, ref("trace.out"), nil, func(*timeline.View) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
	})
	<-reading
	wg.Go(func() {
		if err := all.Use(t.Context(), ref("trace.out"), nil, func(*timeline.View) error { return nil }); err != nil {
			t.Errorf("who waited got %v", err)
		}
	})
	close(waiting)
	wg.Wait()
}

func TestWhatNobodyAsksForGivesWay(t *testing.T) {
	b := testTrace(t, "1.26.8")
	all, _ := timelines(t, map[string][]byte{"a.out": b, "b.out": b}, timeline.Config{KeepBytes: 1})
	var first *timeline.View
	err := all.Use(t.Context(), ref("a.out"), nil, func(v *timeline.View) error {
		first = v
		// It stays while it is used, whatever else is opened.
		err := all.Use(t.Context(), ref("b.out"), nil, func(*timeline.View) error { return nil })
		_, terr := v.Statistics(t.Context(), 0, time.Hour, []timeline.Track{{Kind: trace.TrackGroup, Group: v.Overview().Groups[0].Func}})
		return errors.Join(err, terr)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := all.Use(t.Context(), ref("a.out"), nil, func(v *timeline.View) error {
		if v == first {
			t.Error("it was kept beyond the bound")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := all.Close(); err != nil {
		t.Error(err)
	}
	if err := all.Use(t.Context(), ref("a.out"), nil, func(*timeline.View) error { return nil }); ops.KindOf(err) != ops.Unavailable {
		t.Errorf("after the end: %v", err)
	}
}
