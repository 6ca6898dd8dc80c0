package goroutines_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/profile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// versions are the toolchains whose captures are in testdata; its generate.sh
// makes them.
var versions = []string{"go1.22.12", "go1.23.12", "go1.24.11", "go1.25.5", "go1.26.8", "go1.27.0"}

func capture(t testing.TB, version, file string) *goroutines.Snapshot {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", version, file))
	if err != nil {
		t.Fatal(err)
	}
	s, err := goroutines.Read(bytes.NewReader(b), profile.Limits{})
	if err != nil {
		t.Fatalf("%s %s: %v", version, file, err)
	}
	return s
}

// found is what was read of the goroutines below a function of the capture
// program, as text.
func found(s *goroutines.Snapshot, function string) string {
	var out []string
	for _, g := range s.Groups {
		if !slices.ContainsFunc(g.Stack, func(f goroutines.Frame) bool { return f.Function == function }) {
			continue
		}
		line := fmt.Sprintf("%d %s", g.Count, g.State)
		if g.Forever {
			line += " for ever"
		}
		if g.Wait.Class != "" {
			line += ", " + string(g.Wait.Class) + " of " + g.Wait.Library
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func TestStatesOfEveryVersionAndFormat(t *testing.T) {
	type want struct{ protobuf, stacks, dump string }
	same := func(s string) want { return want{s, s, s} }
	wants := map[string]want{
		"main.stateMutex":                       same("2 mutex"),
		"main.stateRWMutexRead":                 same("1 rwmutex read"),
		"main.stateRWMutexWrite":                same("1 rwmutex write"),
		"main.stateWaitGroup":                   same("1 waitgroup"),
		"main.stateOnce":                        same("1 once"),
		"main.stateCond":                        same("1 cond"),
		"main.stateChanReceive":                 {"1 chan receive", "1 chan", "1 chan receive"},
		"main.stateChanRange":                   {"1 chan receive", "1 chan", "1 chan receive"},
		"main.stateChanSend":                    {"1 chan send", "1 chan", "1 chan send"},
		"main.stateNilChanReceive":              {"1 chan receive", "1 chan", "1 chan receive for ever"},
		"main.stateNilChanSend":                 {"1 chan send", "1 chan", "1 chan send for ever"},
		"main.stateSelect":                      same("1 select"),
		"main.stateSelectForever":               {"1 select", "1 select", "1 select for ever"},
		"main.stateContext":                     {"1 chan receive", "1 chan", "1 chan receive"},
		"main.stateSleep":                       same("1 sleep"),
		"main.stateTimer":                       {"1 chan receive", "1 chan", "1 chan receive"},
		"main.stateNetAccept":                   same("1 net accept"),
		"main.stateNetRead":                     same("1 net read"),
		"main.stateNetWrite":                    same("1 net write"),
		"main.stateUDPRead":                     same("1 net read"),
		"main.statePipeRead":                    same("1 file"),
		"main.stateSyscall":                     same("1 syscall"),
		"main.stateProcessWait":                 same("1 syscall, process of os"),
		"main.stateRunning":                     {"1 running", "1 running", "1 runnable"},
		"main.statePoolAcquire":                 same("1 select, pool acquire of database/sql"),
		"main.stateQuery":                       {"1 chan receive, driver of database/sql", "1 chan, driver of database/sql", "1 chan receive, driver of database/sql"},
		"main.stateHTTPClient":                  same("1 select, http client of net/http"),
		"main.stateLocked":                      {"1 chan receive", "1 chan", "1 chan receive"},
		"main.stateLabelled":                    {"1 chan receive", "1 chan", "1 chan receive"},
		"main.main.func2":                       {"1 chan receive", "1 chan", "1 chan receive"}, // a handler
		"main.stateCoroutine.func1":             same("1 coroutine"),
		"main.main":                             same("1 running"),
		"database/sql.(*DB).connectionOpener":   same("2 select, housekeeping of database/sql"),
		"net/http.(*connReader).backgroundRead": same("1 net read, http server watch of net/http"),
		"net/http.(*persistConn).writeLoop":     same("2 select, http client connection of net/http"),
		"net/http.(*persistConn).readLoop":      same("2 net read, http client connection of net/http"),
		"net/http.(*Server).Serve":              same("1 net accept"),
	}
	for _, version := range versions {
		for file, pick := range map[string]func(want) string{
			"debug0.pprof": func(w want) string { return w.protobuf },
			"debug1.txt":   func(w want) string { return w.stacks },
			"debug2.txt":   func(w want) string { return w.dump },
		} {
			s := capture(t, version, file)
			for function, w := range wants {
				if version == "go1.22.12" && function == "main.stateCoroutine.func1" {
					continue // came with 1.23
				}
				if got, want := found(s, function), pick(w); got != want {
					t.Errorf("%s %s: %s is in %q, want %q", version, file, function, got, want)
				}
			}
			if s.Loss != "" {
				t.Errorf("%s %s: %s", version, file, s.Loss)
			}
			sum := 0
			for _, g := range s.Groups {
				sum += g.Count
			}
			if sum != s.Total || s.Total < 40 {
				t.Errorf("%s %s: %d goroutines in groups of a total of %d", version, file, sum, s.Total)
			}
		}
	}
}

func TestEachIdleConnectionOfAServer(t *testing.T) {
	for _, version := range versions {
		s := capture(t, version, "debug0.pprof")
		idle := 0
		for _, g := range s.Groups {
			if g.Wait.Class == goroutines.HTTPServerIdle {
				idle += g.Count
			}
		}
		if idle != 1 {
			t.Errorf("%s: %d idle connections, want 1", version, idle)
		}
	}
}

func TestDumpNamesTheGoStatement(t *testing.T) {
	for _, version := range versions {
		s := capture(t, version, "debug2.txt")
		for _, g := range s.Groups {
			if g.Stack[len(g.Stack)-1].Function != "main.stateCond" {
				continue
			}
			if g.CreatedBy == nil || g.CreatedBy.Function != "main.main" || g.CreatedBy.File != "capture/main.go" || g.CreatedBy.Line == 0 || len(g.IDs) != 1 {
				t.Errorf("%s: created by %+v, ids %v", version, g.CreatedBy, g.IDs)
			}
		}
	}
}

func TestAgesAreThoseOfTheDump(t *testing.T) {
	for _, version := range []string{"go1.22.12", "go1.26.8"} {
		s := capture(t, version, "debug2.txt")
		for _, g := range s.Groups {
			switch g.Stack[len(g.Stack)-1].Function {
			case "main.stateMutex":
				if g.Aged != 1 && g.Aged != 2 || g.Oldest < time.Minute || g.Oldest > 5*time.Minute || g.Youngest > g.Oldest {
					t.Errorf("%s: %d of %d aged %v to %v", version, g.Aged, g.Count, g.Youngest, g.Oldest)
				}
			case "main.stateRunning":
				if g.Aged != 0 {
					t.Errorf("%s: a running goroutine has an age", version)
				}
			}
		}
	}
}

func TestLabelsAreKept(t *testing.T) {
	for _, version := range versions {
		for _, file := range []string{"debug0.pprof", "debug1.txt"} {
			for _, g := range capture(t, version, file).Groups {
				if !slices.ContainsFunc(g.Stack, func(f goroutines.Frame) bool { return f.Function == "main.stateLabelled" }) {
					continue
				}
				if diff := cmp.Diff([]goroutines.Labels{{Count: 1, Set: map[string]string{"room": "lobby", "user": `a"nn`}}}, g.Labels); diff != "" {
					t.Errorf("%s %s:\n%s", version, file, diff)
				}
			}
		}
	}
}

func TestLockedGoroutinesAreCounted(t *testing.T) {
	for _, version := range versions {
		locked := 0
		for _, g := range capture(t, version, "debug2.txt").Groups {
			locked += g.Locked
		}
		if locked != 1 {
			t.Errorf("%s: %d locked to a thread, want 1", version, locked)
		}
	}
}

func TestFormatsAgreeOnStacks(t *testing.T) {
	for _, version := range versions {
		shape := func(file string) (out []string) {
			for _, g := range capture(t, version, file).Groups {
				var names []string
				for _, f := range g.Stack {
					if !strings.HasPrefix(f.Function, "runtime.") && !strings.HasPrefix(f.Function, "runtime/") && f.Function != "main.main" {
						names = append(names, fmt.Sprintf("%s %s:%d", f.Function, f.File, f.Line))
					}
				}
				if names != nil {
					out = append(out, fmt.Sprintf("%d %s", g.Count, strings.Join(names, " < ")))
				}
			}
			slices.Sort(out)
			return out
		}
		if diff := cmp.Diff(onlyMain(shape("debug1.txt")), onlyMain(shape("debug2.txt"))); diff != "" {
			t.Errorf("%s (- debug=1, + debug=2):\n%s", version, diff)
		}
	}
}

// onlyMain keeps the stacks of the program's own functions, but for generic
// ones, whose names the formats shorten differently, and those that run.
func onlyMain(in []string) []string {
	return slices.DeleteFunc(in, func(s string) bool {
		return !strings.Contains(s, "main.state") || strings.Contains(s, "iter.") || strings.Contains(s, "stateRunning")
	})
}

func TestWorkersOfAnErrgroupAreNotAtItsLimit(t *testing.T) {
	spawn := []goroutines.Frame{{Function: "runtime.chansend1"}, {Function: "golang.org/x/sync/errgroup.(*Group).Go"}, {Function: "main.fetchAll"}}
	if w := goroutines.WaitOf(spawn); w.Class != goroutines.Limit {
		t.Errorf("whoever waits for a slot waits in %q", w.Class)
	}
	work := []goroutines.Frame{{Function: "runtime.chanrecv1"}, {Function: "main.fetch"}, {Function: "golang.org/x/sync/errgroup.(*Group).Go.func1"}}
	if w := goroutines.WaitOf(work); w.Class != "" {
		t.Errorf("a worker waits in %q", w.Class)
	}
}
