package census_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/census"
	"github.com/opscenter/opscenter/internal/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf is one instance's artifacts as text; a capture of the program "game".
type shelf struct {
	files   map[string]string
	running bool
	opened  atomic.Int32
}

type blob struct{ *strings.Reader }

func (blob) Close() error { return nil }

func (s *shelf) reader() *census.Reader {
	return census.New(census.Config{
		Capture: func(_ context.Context, id ops.CaptureID) (ops.Capture, error) {
			t := ops.CaptureTarget{Instance: ops.Instance{ID: "one", Build: ops.Build{ModulePath: "game"}}}
			for name := range s.files {
				a := ops.Artifact{Name: name, Kind: ops.KindGoroutine}
				if name == "goroutine.txt" {
					a.Kind = ops.KindGoroutineDump
				}
				t.Artifacts = append(t.Artifacts, a)
			}
			state := ops.CaptureDone
			if s.running {
				state = ops.CaptureCollecting
			}
			return ops.Capture{ID: id, State: state, Targets: []ops.CaptureTarget{t}}, nil
		},
		Open: func(_ context.Context, ref ops.ArtifactRef) (ops.Blob, ops.Artifact, error) {
			s.opened.Add(1)
			text, ok := s.files[ref.Name]
			if !ok {
				return nil, ops.Artifact{}, ops.Errorf(ops.NotFound, "there is no artifact %s", ref)
			}
			return blob{strings.NewReader(text)}, ops.Artifact{Name: ref.Name, TakenAt: time.Unix(100, 0)}, nil
		},
	})
}

func ref(name string) ops.ArtifactRef {
	return ops.ArtifactRef{Capture: "01cap", Instance: "one", Name: name}
}

// write is a census as text: a line for each group, from the leaf to the root.
func write(c *census.Census) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d goroutines, %d before\n", c.Total, c.AgainstTotal)
	for _, g := range c.Groups {
		fmt.Fprintf(&b, "%d (%d) %s", g.Count, g.Against, g.State)
		if g.Oldest > 0 {
			fmt.Fprintf(&b, ", oldest %s", g.Oldest)
		}
		if g.Dumped > 0 {
			fmt.Fprintf(&b, ", dump saw %d %v", g.Dumped, g.IDs)
		}
		for _, i := range g.Stack {
			fmt.Fprintf(&b, " · %s:%d", c.Frames[i].Function, c.Frames[i].Line)
		}
		if g.CreatedBy >= 0 {
			fmt.Fprintf(&b, " ← %s", c.Frames[g.CreatedBy].Function)
		}
		b.WriteByte('\n')
	}
	if c.OmittedGroups > 0 {
		fmt.Fprintf(&b, "and %d groups with %d goroutines\n", c.OmittedGroups, c.OmittedGoroutines)
	}
	return b.String()
}

// parked is a goroutine of a dump that waits at a line of game.(*Room).Wait.
func parked(id int, state string, line int) string {
	return fmt.Sprintf("goroutine %d [%s]:\ngame.(*Room).Wait(0xc000)\n\t/src/room.go:%d +0x1d\ncreated by game.Open in goroutine 1\n\t/src/room.go:9 +0x2\n\n", id, state, line)
}

const stacks = `goroutine profile: total 3
2 @ 0x1 0x2
#	0x2	game.(*Room).Wait+0x1d	/src/room.go:20

1 @ 0x1 0x3
#	0x3	game.(*Room).Serve+0x1d	/src/room.go:40

`

func count(t *testing.T, s *shelf, q census.Query) *census.Census {
	t.Helper()
	c, err := s.reader().Count(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGroupsGrowShrinkComeAndGo(t *testing.T) {
	s := &shelf{files: map[string]string{
		"goroutine.before.txt": parked(1, "select", 20) + parked(2, "chan receive", 30) + parked(3, "chan receive", 30) + parked(4, "sleep", 40),
		"goroutine.after.txt":  parked(1, "select", 20) + parked(5, "select, 3 minutes", 20) + parked(2, "chan receive", 30) + parked(6, "IO wait", 50),
	}}
	before := ref("goroutine.before.txt")
	got := write(count(t, s, census.Query{Of: ref("goroutine.after.txt"), Against: &before}))
	want := `4 goroutines, 4 before
2 (1) select, oldest 3m0s · game.(*Room).Wait:20 ← game.Open
1 (2) chan receive · game.(*Room).Wait:30 ← game.Open
1 (0) io · game.(*Room).Wait:50 ← game.Open
0 (1) sleep · game.(*Room).Wait:40 ← game.Open
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A group has one id in every snapshot: an address that somebody was sent opens it.
func TestIDsStayTheSame(t *testing.T) {
	s := &shelf{files: map[string]string{"a.txt": parked(1, "select", 20), "b.txt": parked(7, "sleep", 1) + parked(9, "select", 20)}}
	id := func(name, text string) string {
		return count(t, s, census.Query{Of: ref(name), Text: text}).Groups[0].ID
	}
	if a, b := id("a.txt", ""), count(t, s, census.Query{Of: ref("b.txt"), States: []string{"select"}}).Groups[0].ID; a != b || a == "" {
		t.Errorf("ids %q and %q", a, b)
	}
}

func TestADumpOfTheWindowGivesAgesAndIDs(t *testing.T) {
	s := &shelf{files: map[string]string{"goroutine.pprof": stacks, "goroutine.txt": parked(7, "select, 5 minutes", 20) + parked(8, "select, 2 minutes", 20) + parked(9, "select", 99)}}
	got := write(count(t, s, census.Query{Of: ref("goroutine.pprof")}))
	want := `3 goroutines, 0 before
2 (0) unknown, oldest 5m0s, dump saw 2 [7 8] · game.(*Room).Wait:20 ← game.Open
1 (0) unknown · game.(*Room).Serve:40
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFilterAndLimit(t *testing.T) {
	s := &shelf{files: map[string]string{"a.txt": parked(1, "select", 20) + parked(2, "select", 20) + parked(3, "select", 30) + parked(4, "sleep", 40)}}
	for _, c := range []struct {
		name, want string
		q          census.Query
	}{
		{"the case of letters does not matter", "4 goroutines, 0 before\n1 (0) sleep · game.(*Room).Wait:40 ← game.Open\n", census.Query{Text: "ROOM.GO", States: []string{"sleep"}}},
		{"nothing has it", "4 goroutines, 0 before\n", census.Query{Text: "lobby"}},
		{"the rest is counted", "4 goroutines, 0 before\n2 (0) select · game.(*Room).Wait:20 ← game.Open\nand 2 groups with 2 goroutines\n", census.Query{Groups: 1}},
	} {
		c.q.Of = ref("a.txt")
		if d := cmp.Diff(c.want, write(count(t, s, c.q))); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestWhatCannotBeCounted(t *testing.T) {
	s := &shelf{files: map[string]string{"a.txt": parked(1, "select", 20), "b.pprof": stacks, "junk.pprof": "a lunch"}}
	other := ref("b.pprof")
	elsewhere := ref("a.txt")
	elsewhere.Instance = "two"
	for _, c := range []struct {
		q    census.Query
		kind ops.ErrorKind
		want string
	}{
		{census.Query{Of: ref("a.txt"), Against: &other}, ops.Invalid, "a.txt and b.pprof are written in two formats, which name places differently: compare two snapshots of one format"},
		{census.Query{Of: elsewhere}, ops.NotFound, "capture 01cap has no instance two"},
		{census.Query{Of: ref("gone.pprof")}, ops.NotFound, "there is no artifact 01cap/one/gone.pprof"},
		{census.Query{Of: ref("junk.pprof")}, ops.Corrupt, ""},
	} {
		_, err := s.reader().Count(t.Context(), c.q)
		if ops.KindOf(err) != c.kind || c.want != "" && err.Error() != c.want {
			t.Errorf("%s: %v", c.q.Of.Name, err)
		}
	}
}

// What can no longer change is read once; what is being written, every time.
func TestReadsOnce(t *testing.T) {
	for _, running := range []bool{false, true} {
		s := &shelf{files: map[string]string{"a.txt": parked(1, "select", 20)}, running: running}
		r := s.reader()
		for range 3 {
			if _, err := r.Count(t.Context(), census.Query{Of: ref("a.txt")}); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.opened.Load(); n != map[bool]int32{false: 1, true: 3}[running] {
			t.Errorf("running %v: opened %d times", running, n)
		}
	}
}

func TestWhoGivesUpDoesNotWait(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	r := census.New(census.Config{
		Capture: func(context.Context, ops.CaptureID) (ops.Capture, error) {
			close(began)
			<-release
			return ops.Capture{}, nil
		},
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = r.Count(context.Background(), census.Query{Of: ref("a.txt")})
	}()
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Count(ctx, census.Query{Of: ref("b.txt")}); err != context.Canceled { //nolint:errorlint // the context's own
		t.Errorf("got %v", err)
	}
	close(release)
	<-done
}

// A hundred thousand goroutines, each at a place of its own, are the worst there is.
func BenchmarkHundredThousandPlaces(b *testing.B) {
	var text strings.Builder
	text.WriteString("goroutine profile: total 100000\n")
	for i := range 100_000 {
		fmt.Fprintf(&text, "1 @ 0x1 0x%x 0x3\n#\t0x%x\tgame.(*Room).Wait+0x1d\t/src/room.go:%d\n#\t0x3\tgame.main+0x1\t/src/main.go:3\n\n", i+16, i+16, i)
	}
	s := &shelf{files: map[string]string{"a.pprof": text.String()}}
	for _, again := range []bool{false, true} {
		b.Run(map[bool]string{false: "read", true: "filter"}[again], func(b *testing.B) {
			r := s.reader()
			for b.Loop() {
				if !again {
					r = s.reader()
				}
				if c, err := r.Count(context.Background(), census.Query{Of: ref("a.pprof"), Text: "room.go"}); err != nil || len(c.Groups) != census.DefaultGroups {
					b.Fatal(err)
				}
			}
		})
	}
}
