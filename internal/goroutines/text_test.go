package goroutines_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

func read(t testing.TB, text string) *goroutines.Snapshot {
	t.Helper()
	s, err := goroutines.Read(strings.NewReader(text), profile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// render writes a snapshot as text, one group a line.
func render(s *goroutines.Snapshot) (out []string) {
	for _, g := range s.Groups {
		line := fmt.Sprintf("%d %s", g.Count, g.State)
		if g.Aged > 0 {
			line += fmt.Sprintf(" (%d for %v to %v)", g.Aged, g.Youngest, g.Oldest)
		}
		for _, f := range g.Stack {
			line += fmt.Sprintf(" %s:%d", f.Function, f.Line)
		}
		if g.CreatedBy != nil {
			line += fmt.Sprintf(" by %s:%d", g.CreatedBy.Function, g.CreatedBy.Line)
		}
		out = append(out, line)
	}
	return out
}

func TestDumpOfACrash(t *testing.T) {
	s := read(t, `fatal error: all goroutines are asleep - deadlock!

goroutine 1 gp=0xc000002380 m=nil [semacquire, 12 minutes, locked to thread]:
sync.runtime_Semacquire(0xc00001c0b8?)
	/usr/local/go/src/runtime/sema.go:62 +0x25
sync.(*WaitGroup).Wait(0x0?)
	/usr/local/go/src/sync/waitgroup.go:116 +0x48
main.main()
	/src/my app/main.go:20 +0x99

goroutine 18 [chan send (nil chan), 3 minutes] {user: ann}:
main.(*Room).send(...)
	/src/my app/main.go:31
main.(*List[...]).each(0xc000012345, {0x1, 0x2})
	/src/my app/list.go:5 +0x1f
...12 frames elided...
created by main.(*Room).open
	/src/my app/main.go:28 +0x5d

goroutine 19 [chan send (nil chan), 5 minutes]:
main.(*Room).send(...)
	/src/my app/main.go:31
main.(*List[...]).each(0xc000012345, {0x1, 0x2})
	/src/my app/list.go:5 +0x1f
created by main.(*Room).open in goroutine 7
	/src/my app/main.go:28 +0x5d

goroutine 20 [running]:
	goroutine running on other thread; stack unavailable
created by main.main in goroutine 1
	/src/my app/main.go:9 +0x5d

goroutine 21 [some reason of tomorrow]:
main.later()
	/src/my app/main.go:99 +0x1
rax    0x0
exit status 2
`)
	want := []string{
		"2 chan send (2 for 3m0s to 5m0s) main.(*Room).send:31 main.(*List[...]).each:5 by main.(*Room).open:28",
		"1 waitgroup (1 for 12m0s to 12m0s) sync.runtime_Semacquire:62 sync.(*WaitGroup).Wait:116 main.main:20",
		"1 running by main.main:9",
		"1 waiting main.later:99",
	}
	if diff := cmp.Diff(want, render(s)); diff != "" {
		t.Error(diff)
	}
	if s.Groups[0].Stack[0].File != "/src/my app/main.go" || !s.Groups[0].Forever || s.Groups[1].Locked != 1 {
		t.Errorf("groups = %+v", s.Groups[:2])
	}
}

func TestDumpThatIsCutOffIsReadAsFarAsItGoes(t *testing.T) {
	whole := "goroutine 1 [running]:\nmain.main()\n\t/src/main.go:3 +0x1\n\ngoroutine 2 [select]:\nmain.wait(0x1)\n\t/src/main.go:9 +0x1\ncreated by main.main in goroutine 1\n\t/src/main.go:2 +0x1\n"
	if s := read(t, whole); s.Loss != "" || s.Total != 2 {
		t.Errorf("whole: %d, %q", s.Total, s.Loss)
	}
	for _, end := range []string{"goroutine 2 [select]:\n", "main.wait(", "main.wait(0x1)\n", "created by main.m"} {
		s := read(t, whole[:strings.Index(whole, end)+len(end)])
		if s.Loss != "it ends within a goroutine: what comes behind is missing" || s.Total != 2 {
			t.Errorf("up to %q: %d goroutines, loss %q", end, s.Total, s.Loss)
		}
	}
}

func TestTextThatIsCutOffStatesHowManyAreThere(t *testing.T) {
	s := read(t, "goroutine profile: total 50\n20 @ 0x1 0x2\n#\t0x1\tmain.f+0x1\t/src/main.go:3\n\n")
	if s.Loss != "it ends early: 20 of 50 goroutines are there" || s.Total != 20 {
		t.Errorf("%d, %q", s.Total, s.Loss)
	}
}

func TestWithoutAnAnchorTheTextDoesNotTellTheState(t *testing.T) {
	// Nobody here waits visibly, so that the address of gopark is not known.
	s := read(t, "goroutine profile: total 1\n1 @ 0x10 0x20 0x30 0x41\n#\t0x40\tmain.f+0x1\t/src/main.go:3\n")
	if diff := cmp.Diff([]string{"1 unknown main.f:3"}, render(s)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsNoGoroutineProfileIsRefusedInWords(t *testing.T) {
	for name, test := range map[string]struct {
		in   string
		kind ops.ErrorKind
		want string
	}{
		"nothing":      {"", ops.Corrupt, "the profile is empty: capture it again"},
		"a page":       {"<html><body>404</body></html>", ops.Corrupt, "the profile is damaged (it is not a protocol buffer, or it is cut off): capture it again"},
		"uncounted":    {"goroutine profile: total many\n", ops.Corrupt, "this is no goroutine profile (its first line counts nothing): capture it again"},
		"a bare panic": {"panic: oh no\n", ops.Corrupt, "this is no goroutine profile (it has no goroutine): capture it again"},
		"another profile": {func() string {
			var b bytes.Buffer
			if err := pprof.Lookup("threadcreate").WriteTo(&b, 0); err != nil {
				t.Fatal(err)
			}
			return b.String()
		}(), ops.Corrupt, "this is no goroutine profile (it has no values of type goroutine): capture it again"},
	} {
		_, err := goroutines.Read(strings.NewReader(test.in), profile.Limits{})
		if err == nil || err.Error() != test.want || ops.KindOf(err) != test.kind {
			t.Errorf("%s: got %v (%v)", name, err, ops.KindOf(err))
		}
	}
}

func TestTooManyDifferentStacksAreRefused(t *testing.T) {
	var dump, names, stacks strings.Builder
	names.WriteString("goroutine 1 [select]:\n")
	stacks.WriteString("goroutine profile: total 20000\n")
	for i := range 20_000 {
		fmt.Fprintf(&dump, "goroutine %d [select]:\nmain.f%d()\n\t/src/main.go:3 +0x1\n\n", i+1, i)
		fmt.Fprintf(&names, "created by main.a_function_with_a_long_name_%d\n", i)
		fmt.Fprintf(&stacks, "1 @ 0x%x\n", i)
	}
	for _, in := range []string{dump.String(), names.String(), stacks.String()} {
		_, err := goroutines.Read(strings.NewReader(in), profile.Limits{MemoryBytes: 1 << 20})
		want := "the goroutines have too many different stacks for 1 MiB of memory, which is the limit: download the file and read it with go tool pprof"
		if err == nil || err.Error() != want || ops.KindOf(err) != ops.Exhausted {
			t.Errorf("%.40q: got %v", in, err)
		}
	}
}

func TestGrowthByCreationSite(t *testing.T) {
	dump := func(workers, idle int) string {
		var b strings.Builder
		for i := range workers {
			fmt.Fprintf(&b, "goroutine %d [chan receive]:\nmain.work()\n\t/src/main.go:%d +0x1\ncreated by main.serve in goroutine 1\n\t/src/main.go:50 +0x1\n\n", i+1, 10+i%2)
		}
		for i := range idle {
			fmt.Fprintf(&b, "goroutine %d [select]:\nmain.idle()\n\t/src/main.go:30 +0x1\ncreated by main.main in goroutine 1\n\t/src/main.go:60 +0x1\n\n", i+1000)
		}
		return b.String()
	}
	grown, err := goroutines.Compare(read(t, dump(3, 4)), read(t, dump(9, 4)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range grown {
		got = append(got, fmt.Sprintf("%s:%d %d→%d", g.Site.Function, g.Site.Line, g.Before, g.After))
		for _, s := range g.Stacks {
			got = append(got, fmt.Sprintf("  %s:%d %d→%d", s.Group.Stack[0].Function, s.Group.Stack[0].Line, s.Before, s.After))
		}
	}
	if diff := cmp.Diff([]string{"main.serve:50 3→9", "  main.work:10 2→5", "  main.work:11 1→4"}, got); diff != "" {
		t.Error(diff)
	}
	_, err = goroutines.Compare(read(t, dump(1, 0)), read(t, "goroutine profile: total 0\n"))
	if want := "the goroutines were captured in two formats, which cannot be compared: choose two snapshots of one format"; err == nil || err.Error() != want || ops.KindOf(err) != ops.Invalid {
		t.Errorf("got %v", err)
	}
}

// TestLiveGrowth lets goroutines leak and asks the running toolchain's own
// profiles where from.
func TestLiveGrowth(t *testing.T) {
	snapshot := func(debug int) *goroutines.Snapshot {
		var b bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&b, debug); err != nil {
			t.Fatal(err)
		}
		s, err := goroutines.Read(&b, profile.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var before [3]*goroutines.Snapshot
	for i := range before {
		before[i] = snapshot(i)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { leak(ctx) })
	}
	var states [3]goroutines.State
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); runtime.Gosched() {
		waiting := 0
		for _, g := range snapshot(0).Groups {
			if g.State == goroutines.Select {
				waiting += g.Count
			}
		}
		if waiting >= 50 {
			break
		}
	}
	for i := range before {
		grown, err := goroutines.Compare(before[i], snapshot(i))
		if err != nil {
			t.Fatal(err)
		}
		if len(grown) == 0 || grown[0].By() != 50 || len(grown[0].Stacks) != 1 {
			t.Errorf("debug=%d: %+v", i, grown)
			continue
		}
		states[i] = grown[0].Stacks[0].Group.State
	}
	cancel()
	wg.Wait()
	if states[0] != goroutines.Select || states[2] != goroutines.Select {
		t.Errorf("states = %v", states)
	}
}

//go:noinline
func leak(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Hour):
	}
}

func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/go*/debug*")
	if err != nil || len(files) == 0 {
		f.Fatal(err, files)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if strings.HasSuffix(name, ".pprof") {
			if b, err = profile.Decompress(bytes.NewReader(b), profile.Limits{}); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(b)
	}
	f.Add([]byte("goroutine 1 [running, 5 minutes, locked to thread]:\nmain.main()\n\t/src/main.go:3 +0x1\ncreated by x\n\tf:1\n"))
	f.Add([]byte("goroutine profile: total 3\n3 @ 0x10 0x21\n# labels: {\"a\":\"b\"}\n#\t0x20\tmain.f+0x1\t/src/main.go:3\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := goroutines.Read(bytes.NewReader(in), profile.Limits{DecompressedBytes: 1 << 20, MemoryBytes: 16 << 20})
		if err != nil {
			if ops.KindOf(err) == ops.Internal {
				t.Fatalf("blamed on us: %v", err)
			}
			return
		}
		sum := 0
		for _, g := range s.Groups {
			if g.Count < 0 || g.Aged > g.Count || g.State == "" {
				t.Fatalf("%+v", g)
			}
			sum += g.Count
		}
		if sum != s.Total {
			t.Fatalf("groups hold %d of %d", sum, s.Total)
		}
		if grown, err := goroutines.Compare(s, s); err != nil || len(grown) != 0 {
			t.Fatalf("grew against itself: %+v, %v", grown, err)
		}
	})
}
