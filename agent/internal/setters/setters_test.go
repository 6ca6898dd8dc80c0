package setters_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opscenter/opscenter/agent/internal/setters"
)

// The program sets both limits in ways of its own and prints what was found of it.
func TestFind(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("calls are looked for on linux, amd64 and arm64")
	}
	source, err := os.ReadFile("testdata/limited/main.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(source), "\n")
	for name, build := range map[string][]string{
		"as it is":             nil,
		"stripped":             {"-ldflags=-s -w", "-trimpath"},
		"position-independent": {"-buildmode=pie"},
		"nothing inlined":      {"-gcflags=all=-l"},
		"racing":               {"-race"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exe := filepath.Join(t.TempDir(), "limited")
			args := append(append([]string{"build", "-o", exe}, build...), "./testdata/limited")
			if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			out, err := exec.CommandContext(t.Context(), exe).Output()
			if err != nil {
				var x *exec.ExitError
				if errors.As(err, &x) {
					t.Logf("%s", x.Stderr)
				}
				t.Fatal(err)
			}
			var got setters.Found
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatal(err)
			}
			said := func(at []setters.Line) (out []string) {
				for _, p := range at {
					out = append(out, p.Function+": "+strings.TrimSpace(lines[p.Line-1]))
				}
				return out
			}
			if diff := cmp.Diff([]string{"main.(*world).budget: debug.SetMemoryLimit(int64(w.mib) << 20)"}, said(got.MemoryLimit)); diff != "" {
				t.Error("the memory limit:", diff)
			}
			if diff := cmp.Diff([]string{"main.(*world).budget: debug.SetGCPercent(w.percent)", "main.main.func1: debug.SetGCPercent(50)", "main.tune[...]: debug.SetGCPercent(int(percent))"}, said(got.GCPercent)); diff != "" {
				t.Error("GOGC:", diff)
			}
		})
	}
}

func BenchmarkFind(b *testing.B) {
	for b.Loop() {
		if _, err := setters.Find(); err != nil {
			b.Fatal(err)
		}
	}
}
