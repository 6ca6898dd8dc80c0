package corpus

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rules are those of the design; each has to have a program.
var rules = []string{
	"cpu-password-hashing", "cpu-hot-path", "cpu-gc-pressure", "cpu-throttled",
	"downstream-wait", "pool-exhausted", "pool-leaked", "channel-backpressure",
	"lock-contention", "lock-held-across-io", "log-contention", "deadlock",
	"goroutine-leak", "heap-growth", "retained-objects", "response-body-leak",
	"timer-leak", "timer-storm", "goroutine-churn", "unbounded-concurrency",
	"memory-limit-thrash", "thread-explosion", "scheduler-latency", "syscall-blocked",
}

func TestEveryRuleHasAProgram(t *testing.T) {
	programs, err := Load(filepath.Join("testdata", "programs"), regexp.MustCompile(""))
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]int{}
	healthy, quick := 0, 0
	for _, p := range programs {
		if p.Note == "" {
			t.Errorf("%s has no note: say what it does and why it is labelled so", p.Name)
		}
		if strings.HasPrefix(p.Name, "ok-") != p.Healthy {
			t.Errorf("%s: healthy programs, and only they, are named ok-", p.Name)
		}
		if p.Healthy {
			healthy++
		}
		if p.Quick {
			quick++
		}
		named := slices.Clone(p.Acceptable)
		for _, e := range p.Findings {
			has[e.Rule]++
			named = append(append(named, e.Rule), e.Or...)
		}
		for _, rule := range named {
			if !slices.Contains(rules, rule) {
				t.Errorf("%s: there is no rule %q", p.Name, rule)
			}
		}
	}
	for _, rule := range rules {
		if has[rule] == 0 {
			t.Errorf("%s has no program", rule)
		}
	}
	if healthy < 20 || quick < 6 || quick > 12 {
		t.Errorf("%d healthy programs and %d quick ones", healthy, quick)
	}
}

func TestMarksNameTheirPlace(t *testing.T) {
	const src = `package main

type room[K comparable] struct{}

func (r *room[K]) bet() {
	go func() {
		send() // want: channel-backpressure
	}()
}

func (r room[K]) two() { a(); b() } // want: deadlock lock-contention

var x = 1 // want: heap-growth
func main() {}
`
	marks := map[string][]Place{}
	if err := marksOf("main.go", []byte(src), marks); err != nil {
		t.Fatal(err)
	}
	want := map[string][]Place{
		"channel-backpressure": {{"main.(*room).bet", "main.go", 7}},
		"deadlock":             {{"main.room.two", "main.go", 11}},
		"lock-contention":      {{"main.room.two", "main.go", 11}},
		"heap-growth":          {{"", "main.go", 13}},
	}
	if diff := cmp.Diff(want, marks); diff != "" {
		t.Error(diff)
	}
}

func TestLabelsThatCannotBeRight(t *testing.T) {
	for name, c := range map[string]struct{ label, code, want string }{
		"nothing":       {`{}`, "", "p: expect.json: a program is either healthy or has findings: set one"},
		"both":          {`{"healthy": true, "findings": [{"rule": "deadlock", "anywhere": true}]}`, "", "p: expect.json: a program is either healthy or has findings: set one"},
		"no rule":       {`{"findings": [{"function": "main.f"}]}`, "", "p: expect.json: finding 1 names no rule"},
		"no place":      {`{"findings": [{"rule": "deadlock"}]}`, "", "p: expect.json: finding deadlock has no place: name one, or mark its line with // want: deadlock"},
		"a stray mark":  {`{"healthy": true}`, "var x = 1 // want: deadlock", "p: expect.json: the code marks deadlock, which is no finding here"},
		"a wrong way":   {`{"findings": [{"rule": "deadlock", "anywhere": true, "only": "agentless"}]}`, "", `p: expect.json: finding deadlock: only "agentless": say "agent", or leave it out`},
		"a wrong field": {`{"helthy": true}`, "", `p: expect.json: json: unknown field "helthy"`},
		"broken code":   {`{"healthy": true}`, "func // want: deadlock", "p: main.go:2:24: expected 'IDENT', found 'EOF'"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "p", "main.go"), "package main\n"+c.code+"\n")
			write(t, filepath.Join(dir, "p", "expect.json"), c.label)
			_, err := Load(dir, regexp.MustCompile(""))
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestNoProgramIsAnError(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "notes", "README"), "nothing here")
	_, err := Load(dir, regexp.MustCompile("x"))
	if want := `no program in ` + dir + ` matches "x": each is a folder with a main.go and an expect.json`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestDescribe(t *testing.T) {
	var b strings.Builder
	Describe(&b, []Program{
		{Name: "ok-idle", Label: Label{Healthy: true, Note: "It waits."}},
		{Name: "stuck", Label: Label{
			Findings: []Expected{
				{Rule: "deadlock", Or: []string{"lock-contention"}, Function: "main.f", File: "main.go", Line: 3, Also: []Place{{"main.g", "main.go", 9}}},
				{Rule: "cpu-throttled", Anywhere: true, Only: Agent},
			},
			Acceptable: []string{"goroutine-leak"}, Note: "It hangs.",
		}},
	})
	want := `ok-idle: healthy. It waits.
stuck: deadlock or lock-contention at main.f main.go:3 or main.g main.go:9, and cpu-throttled (agent only) (also true: goroutine-leak). It hangs.
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
