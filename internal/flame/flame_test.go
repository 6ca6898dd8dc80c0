package flame_test

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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pprof "github.com/google/pprof/profile"
	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/flame"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/profile/profiletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the golden files")

// encode makes a profile out of lines "main.main:3;main.work:7 10", from the root
// to the leaf; an int is the value of every type.
func encode(t testing.TB, types, text string) []byte {
	t.Helper()
	p := &pprof.Profile{TimeNanos: 1e18, DurationNanos: 10e9, PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 1}
	for typ := range strings.FieldsSeq(types) {
		name, unit, _ := strings.Cut(typ, "/")
		p.SampleType = append(p.SampleType, &pprof.ValueType{Type: name, Unit: unit})
	}
	functions, locations := map[string]*pprof.Function{}, map[string]*pprof.Location{}
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' }) {
		stack, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		value, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		s := &pprof.Sample{}
		for range p.SampleType {
			s.Value = append(s.Value, value)
		}
		for frame := range strings.SplitSeq(stack, ";") {
			if locations[frame] == nil {
				name, at, _ := strings.Cut(frame, ":")
				n, _ := strconv.ParseInt(at, 10, 64)
				if functions[name] == nil {
					functions[name] = &pprof.Function{ID: uint64(len(functions) + 1), Name: name, Filename: "/src/game.go", StartLine: 1}
					p.Function = append(p.Function, functions[name])
				}
				locations[frame] = &pprof.Location{ID: uint64(len(locations) + 1), Line: []pprof.Line{{Function: functions[name], Line: n}}}
				p.Location = append(p.Location, locations[frame])
			}
			s.Location = append([]*pprof.Location{locations[frame]}, s.Location...)
		}
		p.Sample = append(p.Sample, s)
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// shelf is an archive of one capture: files by instance and name.
type shelf struct {
	files  map[string][]byte // "inst-1/cpu.pprof"
	order  []string
	opened atomic.Int32
	wait   chan struct{} // opening waits until it is closed; nil = it does not
}

func (s *shelf) put(name string, content []byte) *shelf {
	if s.files == nil {
		s.files = map[string][]byte{}
	}
	s.files[name] = content
	s.order = append(s.order, name)
	return s
}

func (s *shelf) Capture(_ context.Context, id ops.CaptureID) (ops.Capture, error) {
	c := ops.Capture{ID: id}
	for _, name := range s.order {
		instance, file, _ := strings.Cut(name, "/")
		if len(c.Targets) == 0 || c.Targets[len(c.Targets)-1].Instance.ID != ops.InstanceID(instance) {
			c.Targets = append(c.Targets, ops.CaptureTarget{Instance: ops.Instance{ID: ops.InstanceID(instance), Address: "host of " + instance}})
		}
		t := &c.Targets[len(c.Targets)-1]
		a := ops.Artifact{Name: file, SHA256: name}
		if strings.Contains(name, "lossy") {
			a.Losses = []ops.Loss{{Kind: ops.KindCPU, Reason: ops.LossGap, Message: "0.1 s between two segments"}}
		}
		t.Artifacts = append(t.Artifacts, a)
	}
	return c, nil
}

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

func (s *shelf) OpenArtifact(ctx context.Context, ref ops.ArtifactRef) (ops.Blob, ops.Artifact, error) {
	s.opened.Add(1)
	if s.wait != nil {
		select {
		case <-s.wait:
		case <-ctx.Done():
			return nil, ops.Artifact{}, ctx.Err()
		}
	}
	return blob{bytes.NewReader(s.files[string(ref.Instance)+"/"+ref.Name])}, ops.Artifact{Name: ref.Name}, nil
}

// draw renders a graph: a box a line, its value, then its own; of a comparison
// those of the base first.
func draw(g *flame.Graph) string {
	var b strings.Builder
	type values struct{ self, total [2]float64 }
	boxes := make([]values, g.Boxes)
	number := func(column []byte, i int) float64 {
		if column == nil {
			return 0
		}
		return math.Float64frombits(binary.LittleEndian.Uint64(column[8*i:]))
	}
	depth := func(i int) int { return int(binary.LittleEndian.Uint16(g.Depth[2*i:])) }
	var path []int
	for i := range boxes {
		path = append(path[:depth(i)], i)
		boxes[i].self = [2]float64{number(g.BaseSelf, i), number(g.Self, i)}
		for _, up := range path {
			boxes[up].total[0] += boxes[i].self[0]
			boxes[up].total[1] += boxes[i].self[1]
		}
	}
	for i, v := range boxes {
		f := g.Frames[binary.LittleEndian.Uint32(g.Frame[4*i:])]
		if i == 0 {
			f.Name = g.Types[g.Type].Type
		}
		fmt.Fprintf(&b, "%s%s", strings.Repeat("  ", depth(i)), f.Name)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
		}
		if g.BaseSelf != nil {
			fmt.Fprintf(&b, " %v → %v (self %v → %v)\n", v.total[0], v.total[1], v.self[0], v.self[1])
		} else {
			fmt.Fprintf(&b, " %v (self %v)\n", v.total[1], v.self[1])
		}
	}
	fmt.Fprintf(&b, "total %d of %d samples of %d instances", g.Source.Total, g.Source.Samples, len(g.Source.Instances))
	if g.Base != nil {
		fmt.Fprintf(&b, ", base %d", g.Base.Total)
	}
	if g.Pruned > 0 {
		fmt.Fprintf(&b, "; %d branches of less than %.2g pruned", g.Pruned, g.PrunedShare)
	}
	if g.Negative < 0 {
		fmt.Fprintf(&b, "; %d negative", g.Negative)
	}
	for _, l := range g.Source.Losses {
		fmt.Fprintf(&b, "\n%s: %s", l.Reason, l.Message)
	}
	return b.String() + "\n"
}

func rows(title string, list []flame.Row, compared bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", title)
	for _, r := range list {
		at := r.Name
		if r.Line > 0 {
			at += fmt.Sprintf(":%d", r.Line)
		}
		if compared {
			fmt.Fprintf(&b, "  %-16s self %d → %d, total %d → %d\n", at, r.BaseSelf, r.Self, r.BaseTotal, r.Total)
		} else {
			fmt.Fprintf(&b, "  %-16s self %d, total %d\n", at, r.Self, r.Total)
		}
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", path, got, want)
	}
}

const calm = `main.main:3;game.Spin:10;game.draw:4 20
main.main:3;game.Spin:10;wallet.Commit:7 5
main.main:3;game.Spin:11;wallet.Commit:9 5
runtime.gc:1 10`

const hot = `main.main:3;game.Spin:10;game.draw:4 20
main.main:3;game.Spin:10;wallet.Commit:7;bcrypt.Compare:90 60
runtime.gc:1 -4`

const cpu = "samples/count cpu/nanoseconds"

func TestAnswersOfOneProfile(t *testing.T) {
	r := flame.New(flame.Config{Archive: new(shelf).put("inst-1/cpu.pprof", encode(t, cpu, calm))})
	q := flame.Query{Source: flame.Source{Capture: "01abc", Artifact: "cpu.pprof"}}
	golden(t, "one", all(t, r, q, "wallet.Commit"))
	q.Filter.Lines = true
	golden(t, "one-lines", all(t, r, q, "game.Spin"))
	q.Filter = profile.Filter{HidePackages: []string{"game"}, Ignore: "gc"}
	golden(t, "one-filtered", all(t, r, q, "wallet.Commit"))
}

func TestAnswersOfTwoSides(t *testing.T) {
	r := flame.New(flame.Config{Archive: new(shelf).put("inst-1/cpu.pprof", encode(t, cpu, calm)).put("inst-2-lossy/cpu.pprof", encode(t, "cpu/nanoseconds", hot)).put("inst-3/heap.pprof", nil)})
	q := flame.Query{
		Source: flame.Source{Capture: "01abc", Instances: []ops.InstanceID{"inst-2-lossy"}, Artifact: "cpu.pprof"},
		Base:   &flame.Source{Capture: "01abc", Instances: []ops.InstanceID{"inst-1"}, Artifact: "cpu.pprof"},
	}
	golden(t, "two", all(t, r, q, "wallet.Commit"))
	q.Normalise = true
	golden(t, "two-normalised", all(t, r, q, "bcrypt.Compare"))
	q.Base.Instances, q.Source.Artifact, q.Normalise = nil, "cpu.pprof", false
	q.Source.Instances = []ops.InstanceID{"inst-1"}
	_, err := r.Graph(t.Context(), q, 0)
	exact(t, err, "the side to compare with: these profiles are of different kinds (samples/count cpu/nanoseconds per cpu/nanoseconds, and cpu/nanoseconds per cpu/nanoseconds): choose profiles of one kind")
}

func TestInstancesAreSummed(t *testing.T) {
	r := flame.New(flame.Config{Archive: new(shelf).put("inst-1/cpu.pprof", encode(t, cpu, calm)).put("inst-2-lossy/cpu.pprof", encode(t, cpu, hot)).put("inst-3/heap.pprof", nil)})
	golden(t, "sum", all(t, r, flame.Query{Source: flame.Source{Capture: "01abc", Artifact: "cpu.pprof"}}, "wallet.Commit"))
}

func all(t *testing.T, r *flame.Reader, q flame.Query, function string) string {
	t.Helper()
	g, err := r.Graph(t.Context(), q, 0)
	if err != nil {
		t.Fatal(err)
	}
	top, err := r.Top(t.Context(), q, 3)
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.Function(t.Context(), q, function)
	if err != nil {
		t.Fatal(err)
	}
	compared := q.Base != nil
	return draw(g) + rows(fmt.Sprintf("\ntop 3 of %d", top.Functions), top.Rows, compared) + rows("\nfunction", []flame.Row{f.Row}, compared) +
		rows("called by", f.Callers, compared) + rows("calls", f.Callees, compared) + rows("lines", f.Lines, compared)
}

func TestWhatIsTooSmallIsPrunedAndTheSumStays(t *testing.T) {
	var b bytes.Buffer
	if err := profiletest.Synthetic(profiletest.Shape{Samples: 3000, Functions: 300, MaxDepth: 12, Seed: 3}).Write(&b); err != nil {
		t.Fatal(err)
	}
	r := flame.New(flame.Config{Archive: new(shelf).put("inst-1/cpu.pprof", b.Bytes())})
	q := flame.Query{Source: flame.Source{Capture: "01abc", Artifact: "cpu.pprof"}}
	whole, err := r.Graph(t.Context(), q, 0)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Pruned != 0 || whole.Boxes < 5000 {
		t.Fatalf("%d boxes, %d pruned", whole.Boxes, whole.Pruned)
	}
	for _, most := range []int{4000, 300, 2, 1} {
		g, err := r.Graph(t.Context(), q, most)
		if err != nil {
			t.Fatal(err)
		}
		if g.Boxes > most && most > 1 || g.Pruned == 0 {
			t.Errorf("at most %d: %d boxes, %d pruned", most, g.Boxes, g.Pruned)
		}
		first, _, _ := strings.Cut(draw(g), " (")
		if want, _, _ := strings.Cut(draw(whole), " ("); first != want {
			t.Errorf("at most %d: the whole is %s, it was %s", most, first, want)
		}
		if !strings.Contains(draw(g), profile.PrunedFrame) {
			t.Errorf("at most %d: nothing says what was pruned", most)
		}
	}
}

func exact(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestWhatCannotBeAnsweredSaysWhatToDo(t *testing.T) {
	r := flame.New(flame.Config{Archive: new(shelf).put("inst-1/cpu.pprof", encode(t, cpu, calm)).put("inst-1/bad.pprof", []byte("no profile")).put("inst-2/heap.pprof", encode(t, "inuse_space/bytes", calm))})
	ask := func(q flame.Query) error {
		_, err := r.Graph(t.Context(), q, 0)
		return err
	}
	exact(t, ask(flame.Query{Source: flame.Source{Capture: "../x", Artifact: "cpu.pprof"}}), `"cpu.pprof" of capture "../x" is not the name of an artifact: take both from the capture's page`)
	exact(t, ask(flame.Query{Source: flame.Source{Capture: "01abc", Artifact: "block.pprof"}}), "capture 01abc has no block.pprof of what was asked for: choose another kind of profile, or capture this one")
	exact(t, ask(flame.Query{Source: flame.Source{Capture: "01abc", Instances: []ops.InstanceID{"inst-9"}, Artifact: "cpu.pprof"}}), `capture 01abc has no instance "inst-9": take one from the capture's page`)
	exact(t, ask(flame.Query{Source: flame.Source{Capture: "01abc", Artifact: "cpu.pprof"}, Type: "bytes"}), `the profile has no values of type "bytes": choose one of samples, cpu`)
	if err := ask(flame.Query{Source: flame.Source{Capture: "01abc", Artifact: "bad.pprof"}}); ops.KindOf(err) != ops.Corrupt {
		t.Errorf("a file that is no profile: %v", err)
	}
	exact(t, ask(flame.Query{Source: flame.Source{Capture: "01abc", Artifact: "heap.pprof"}, Base: &flame.Source{Capture: "01abc", Artifact: "cpu.pprof"}}), "these profiles are of different kinds (samples/count cpu/nanoseconds per cpu/nanoseconds, and inuse_space/bytes per cpu/nanoseconds): choose profiles of one kind")
	_, err := r.Function(t.Context(), flame.Query{Source: flame.Source{Capture: "01abc", Artifact: "cpu.pprof"}}, "main.gone")
	exact(t, err, `the profile has no function "main.gone": take a name from its table of functions`)
}

func TestAProfileIsReadOnceAndForgottenWhenIdle(t *testing.T) {
	s := new(shelf).put("inst-1/cpu.pprof", encode(t, cpu, calm))
	q := flame.Query{Source: flame.Source{Capture: "01abc", Artifact: "cpu.pprof"}}
	synctest.Test(t, func(t *testing.T) {
		s.wait = make(chan struct{})
		r := flame.New(flame.Config{Archive: s})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = r.Run(ctx) })

		// The first caller leaves while it reads: one of those who wait takes over.
		first, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.Graph(first, q, 0); !errors.Is(err, context.Canceled) {
				t.Errorf("who left got %v", err)
			}
		})
		synctest.Wait()
		for range 5 {
			wg.Go(func() {
				if _, err := r.Graph(t.Context(), q, 0); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		close(s.wait)
		wg.Wait()
		if n := s.opened.Load(); n != 2 {
			t.Errorf("read %d times", n)
		}
		time.Sleep(5 * time.Minute)
		if _, err := r.Top(t.Context(), q, 0); err != nil || s.opened.Load() != 2 {
			t.Errorf("a second look: %v, read %d times", err, s.opened.Load())
		}
		time.Sleep(time.Hour)
		if _, err := r.Top(t.Context(), q, 0); err != nil || s.opened.Load() != 3 {
			t.Errorf("after an hour: %v, read %d times", err, s.opened.Load())
		}
		cancel()
		running.Wait()
	})
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	s := new(shelf)
	for i := range 4 {
		s.put(fmt.Sprintf("inst-%d/cpu.pprof", i), encode(t, cpu, calm))
	}
	r := flame.New(flame.Config{Archive: s, CacheBytes: 3000}) // two of them
	read := func(i int) {
		t.Helper()
		if _, err := r.Top(t.Context(), flame.Query{Source: flame.Source{Capture: "01abc", Instances: []ops.InstanceID{ops.InstanceID(fmt.Sprintf("inst-%d", i))}, Artifact: "cpu.pprof"}}, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []int{0, 1, 0, 2, 0, 3, 0} { // 0 is always used again
		read(i)
		time.Sleep(time.Millisecond)
	}
	if n := s.opened.Load(); n != 4 {
		t.Errorf("read %d times, 4 are needed", n)
	}
	read(1)
	if n := s.opened.Load(); n != 5 {
		t.Errorf("what was pushed out is still there: read %d times", n)
	}
}
