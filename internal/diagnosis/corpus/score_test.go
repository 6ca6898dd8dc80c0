package corpus

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// finding reads "severity rule function:line", with "<- id" for its cause and
// "= id" for its own.
func finding(t *testing.T, line string) Finding {
	t.Helper()
	line, id, _ := strings.Cut(line, " = ")
	line, cause, caused := strings.Cut(line, " <- ")
	f := Finding{ID: id, Score: 80, Title: line}
	if caused {
		f.CausedBy = &cause
	}
	var place string
	if _, err := fmt.Sscan(line, &f.Severity, &f.Rule, &place); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	p := Place{File: "/build/main.go"}
	at := strings.LastIndex(place, ":")
	p.Function = place[:at]
	if _, err := fmt.Sscan(place[at+1:], &p.Line); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if f.ID == "" {
		f.ID = f.Rule + "/" + p.Function
	}
	f.Where = []Place{p}
	return f
}

func findings(t *testing.T, text string) (all []Finding) {
	t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, finding(t, line))
		}
	}
	return all
}

func at(rule, function string, line int) Expected {
	return Expected{Rule: rule, Function: function, File: "main.go", Line: line}
}

func TestJudge(t *testing.T) {
	lock := Label{Findings: []Expected{at("lock-held-across-io", "main.(*room).bet", 24)}, Acceptable: []string{"goroutine-leak"}}
	hashing := at("cpu-password-hashing", "main.register", 9)
	hashing.Or = []string{"lock-contention"}
	throttled := Expected{Rule: "cpu-throttled", Anywhere: true, Only: Agent}
	for name, c := range map[string]struct {
		label Label
		way   Way
		said  string
		want  string
	}{
		"right": {lock, Agent, `critical lock-held-across-io main.(*room).bet:24`, `
right
    found     critical lock-held-across-io 80 at main.(*room).bet /build/main.go:24`},
		"silent": {lock, Agent, ``, `
WRONG
    missed    lock-held-across-io`},
		"as a notice only": {lock, Agent, `notice lock-held-across-io main.(*room).bet:24`, `
WRONG
    too weak  notice lock-held-across-io 80 at main.(*room).bet /build/main.go:24`},
		"another line of a closure in a generic function": {lock, Agent, `critical lock-held-across-io example.com/game/main.(*room[go.shape.int]).bet.func1.2:25`, `
right
    off line  critical lock-held-across-io 80 at example.com/game/main.(*room[go.shape.int]).bet.func1.2 /build/main.go:25`},
		"a closure that was inlined, at the right line": {lock, Agent, `critical lock-held-across-io main.main.serve.func3:24`, `
right
    found     critical lock-held-across-io 80 at main.main.serve.func3 /build/main.go:24`},
		"another function": {lock, Agent, `critical lock-held-across-io main.main:90`, `
WRONG
    misplaced critical lock-held-across-io 80 at main.main /build/main.go:90`},
		"what is also true, and what is not": {lock, Agent, `
			critical heap-growth main.grow:3
			critical lock-held-across-io main.(*room).bet:24
			warning goroutine-leak main.leak:5
			notice timer-leak main.tick:6`, `
WRONG
    found     critical lock-held-across-io 80 at main.(*room).bet /build/main.go:24
              but not before what is false, or its effect
    false     critical heap-growth 80 at main.grow /build/main.go:3
    also      warning goroutine-leak 80 at main.leak /build/main.go:5`},
		"the same rule at the wrong place as well": {lock, Agent, `
			critical lock-held-across-io main.other:2
			warning lock-held-across-io main.(*room).bet:24`, `
WRONG
    found     warning lock-held-across-io 80 at main.(*room).bet /build/main.go:24
              but not before what is false, or its effect
    false     critical lock-held-across-io 80 at main.other /build/main.go:2`},
		"an effect of an effect of what is true": {lock, Agent, `
			critical lock-held-across-io main.(*room).bet:24 = a
			critical lock-contention main.(*room).bet:22 <- a = b
			warning scheduler-latency main.main:22 <- b`, `
right
    found     critical lock-held-across-io 80 at main.(*room).bet /build/main.go:24
    also      critical lock-contention 80 at main.(*room).bet /build/main.go:22
    also      warning scheduler-latency 80 at main.main /build/main.go:22`},
		"an effect before its cause": {lock, Agent, `
			critical lock-contention main.(*room).bet:22 <- a = b
			critical lock-held-across-io main.(*room).bet:24 = a`, `
right
    found     critical lock-held-across-io 80 at main.(*room).bet /build/main.go:24
              but not before what is false, or its effect
    also      critical lock-contention 80 at main.(*room).bet /build/main.go:22`},
		"an effect of something false, and a circle": {lock, Agent, `
			critical lock-held-across-io main.(*room).bet:24
			warning heap-growth main.x:1 = x
			warning timer-leak main.y:2 <- x
			warning timer-storm main.z:3 <- z = z`, `
WRONG
    found     critical lock-held-across-io 80 at main.(*room).bet /build/main.go:24
    false     warning heap-growth 80 at main.x /build/main.go:1
    false     warning timer-leak 80 at main.y /build/main.go:2
    false     warning timer-storm 80 at main.z /build/main.go:3`},
		"either rule, but one": {Label{Findings: []Expected{hashing}}, Agent, `
			critical lock-contention main.register:9
			critical cpu-password-hashing main.register:9`, `
WRONG
    found     critical cpu-password-hashing 80 at main.register /build/main.go:9
              but not before what is false, or its effect
    false     critical lock-contention 80 at main.register /build/main.go:9`},
		"the other rule": {Label{Findings: []Expected{hashing}}, Agent, `critical lock-contention main.register:9`, `
right
    found     critical lock-contention 80 at main.register /build/main.go:9`},
		"what only the agent sees, agentless": {Label{Findings: []Expected{throttled}}, Agentless, ``, `
right`},
		"what only the agent sees, seen agentless": {Label{Findings: []Expected{throttled}}, Agentless, `critical cpu-throttled main.main:1`, `
right
    also      critical cpu-throttled 80 at main.main /build/main.go:1`},
		"anywhere": {Label{Findings: []Expected{throttled}}, Agent, `critical cpu-throttled net/http.(*conn).serve:1`, `
right
    found     critical cpu-throttled 80 at net/http.(*conn).serve /build/main.go:1`},
		"healthy, and what is also true": {Label{Healthy: true, Acceptable: []string{"cpu-hot-path"}}, Agent, `
			warning cpu-hot-path main.main:1
			critical cpu-hot-path main.other:2`, `
WRONG
    false     critical cpu-hot-path 80 at main.other /build/main.go:2
    also      warning cpu-hot-path 80 at main.main /build/main.go:1`},
		"healthy":     {Label{Healthy: true}, Agent, `notice cpu-hot-path main.main:1`, "\nright"},
		"not healthy": {Label{Healthy: true}, Agent, `warning cpu-hot-path main.main:1`, "\nWRONG\n    false     warning cpu-hot-path 80 at main.main /build/main.go:1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Judge(Program{Name: "p", Label: c.label}, c.way, findings(t, c.said))
			var b strings.Builder
			r.Print(&b)
			_, got, _ := strings.Cut(b.String(), "0.0s  ")
			if diff := cmp.Diff(strings.TrimSpace(c.want), strings.TrimSpace(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestReadDiagnosis(t *testing.T) {
	f, err := ReadDiagnosis([]byte(`{"schema":"opscenter.diagnosis/v1","findings":[
		{"id":"a/main.f","rule":"a","severity":"warning","score":60,"where":[{"role":"io","function":"main.f","file":"m.go","line":4}],"caused_by":null}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Finding{{ID: "a/main.f", Rule: "a", Severity: "warning", Score: 60, Where: []Place{{"main.f", "m.go", 4}}}}, f); diff != "" {
		t.Error(diff)
	}
	for in, want := range map[string]string{
		"":                       "the diagnosis is no JSON: unexpected end of JSON input",
		`{"schema":"x/v1"}`:      `the diagnosis is "x/v1", not opscenter.diagnosis/v1`,
		`{"schema":"x","fin`:     "the diagnosis is no JSON: unexpected end of JSON input",
		`{"schema":1}`:           "the diagnosis is no JSON: json: cannot unmarshal number into Go struct field .schema of type string",
		`[{"schema":"x/v1"}]`:    "the diagnosis is no JSON: json: cannot unmarshal array into Go value of type struct { Schema string \"json:\\\"schema\\\"\"; Findings []corpus.Finding \"json:\\\"findings\\\"\" }",
		`{"findings":[{}]}` + "": `the diagnosis is "", not opscenter.diagnosis/v1`,
	} {
		if _, err := ReadDiagnosis([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", in, err, want)
		}
	}
}

func TestPlainFunctions(t *testing.T) {
	for in, want := range map[string]string{
		"main.(*room).placeBet":                                    "main.(*room).placeBet",
		"example.com/a.b/wallet.(*Bank[go.shape.int]).Pay.func2":   "wallet.(*Bank).Pay",
		"main.first[go.shape.struct { main.price int }].func1":     "main.first",
		"main.first[go.shape.struct { a map[string]int }].gowrap1": "main.first",
		"main.main.func1.2":                                        "main.main",
		"main.(*hub).accept-fm":                                    "main.(*hub).accept",
		"main.scan-range1":                                         "main.scan",
		"net/http.(*persistConn).readLoop":                         "http.(*persistConn).readLoop",
		// Closures of functions that were inlined.
		"main.(*Ladder).routes.func1.(*Ladder).Page.1": "main.(*Ladder).Page",
		"main.main.func3.load.func1":                   "main.load",
		"main.(*state).start.(*state).handle.func1":    "main.(*state).handle",
	} {
		if got := plain(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestSummary(t *testing.T) {
	lock := Label{Findings: []Expected{at("lock-held-across-io", "main.bet", 24)}}
	leak := Label{Findings: []Expected{at("goroutine-leak", "main.leak", 5)}}
	judged := func(l Label, w Way, seconds float64, said string) Result {
		l.Note = "x"
		r := Judge(Program{Name: "p", Label: l}, w, findings(t, said))
		r.Seconds = seconds
		return r
	}
	good := []Result{
		judged(lock, Agent, 1, "critical lock-held-across-io main.bet:24"),
		judged(lock, Agentless, 2, "warning lock-held-across-io main.bet:23"),
		judged(Label{Healthy: true}, Agent, 3, ""),
		{Skipped: "no cgroup can be made here"},
	}
	bad := append(good[:4:4],
		judged(leak, Agent, 7.5, "warning goroutine-leak main.main:50\ncritical heap-growth main.x:1"),
		judged(leak, Agentless, 1, ""),
		judged(Label{Healthy: true}, Agentless, 1, "critical deadlock main.main:1"),
		Result{Error: "the program ended"},
	)
	var b strings.Builder
	for _, results := range [][]Result{good, bad, nil} {
		s := Summarize(results)
		if err := s.Print(&b); err != nil {
			t.Fatal(err)
		}
		b.WriteString("----\n")
	}
	golden(t, "summary.txt", b.String())
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
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
