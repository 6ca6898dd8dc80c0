package rules

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opscenter/opscenter/internal/ops"
)

func rule(lines ...string) string {
	return "rules:\n  - name: r\n    " + strings.Join(lines, "\n    ") + "\n"
}

func TestPresetsAreRulesThatAreOff(t *testing.T) {
	text, err := os.ReadFile("presets.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defs, err := Parse("presets.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range defs {
		if d.Enabled {
			t.Errorf("%s is on", d.Name)
		}
		got = append(got, d.Name+" | "+d.When+" | "+strings.Join(d.Do, "; ")+" | "+d.Limits)
	}
	want := []string{
		"cpu-burn | cpu ≥ 85 % for 20s | capture 10s cpu, goroutine, trace, runtime; notify | 2× per 6h, cooldown 15m, memory ≤ 95 %",
		"waiting-for-connections | pool-waiters ≥ 10 for 10s | snapshot goroutine; capture 5s goroutine, trace, runtime; notify | 2× per 6h, cooldown 15m, memory ≤ 95 %",
		"goroutines-pile-up | goroutines ≥ 500, ≥ 3× usual for 10s | flight 5s; snapshot goroutine; capture 5s goroutine, block, mutex, runtime; notify | 2× per 6h, cooldown 15m, memory ≤ 95 %",
		"stall | slow * ≥ 50ms, 1× within 1m | flight 2s; notify | 6× per 6h, cooldown 30s, memory ≤ 95 %",
		"heap-grows | heap-slope ≥ 4 MiB/min for 1m | pair; notify | 2× per 6h, cooldown 30m, memory ≤ 95 %",
		"before-the-kill | memory ≥ 90 % | snapshot; notify | 2× per 6h, cooldown 10m, memory ≤ 97 %",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestWhatAFileSays(t *testing.T) {
	defs, err := Parse("a.yaml", []byte(rule(
		"for: {project: color-game, service: game-*, labels: {zone: a}}",
		"when: {slow: 'grpc:*', longer: 40ms, quantile: p99.5, times: 100, within: 2m}",
		"do: [{flight: 3s}, pair, {capture: 5s}]",
		"limits: {cooldown: 1m, times: 5, per: 2h, stop_after: 9, max_memory: 80 %, max_cpu: 90 %}")))
	if err != nil {
		t.Fatal(err)
	}
	d := defs[0]
	want := ops.Rule{
		Name: "r", Revision: d.Revision,
		Trigger: ops.RuleTrigger{Signal: "grpc:*", Longer: 40 * time.Millisecond, Quantile: 0.995, Times: 100, Within: 2 * time.Minute},
		Actions: []ops.RuleAction{{Kind: ops.RuleFlight, Last: 3 * time.Second}, {Kind: ops.RulePair}, {Kind: ops.RuleCapture, For: 5 * time.Second}},
		Bounds:  ops.RuleBounds{Cooldown: time.Minute, Budget: 5, Per: 2 * time.Hour, StopAfter: 9, MaxMemory: 0.8, MaxCPU: 0.9},
	}
	if diff := cmp.Diff(want, d.Rule); diff != "" {
		t.Error(diff)
	}
	of := func(service, zone string) bool {
		return d.Of(ops.Instance{Project: "color-game", Service: ops.ServiceName(service), Labels: map[string]string{"zone": zone}})
	}
	if !of("game-service", "a") || of("game-service", "b") || of("user-service", "a") || !d.Enabled {
		t.Error("it is for the wrong instances")
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	do := "do: [snapshot]"
	for want, text := range map[string]string{
		`a.yaml:3: unknown field "wen"`:                                                             rule("wen: {metric: cpu}", do),
		`a.yaml:4: above: "much" is no share: write one such as 80%`:                                rule("when:", "  above: much", "  metric: cpu", do),
		`a.yaml:3: unknown metric "entropy": use one of cpu, throttled, goroutines, memory`:         rule("when: {metric: entropy, above: 1}", do),
		`a.yaml:4: hold: "soon" is no time from 0s to 1h0m0s: write one such as 10s or 2m`:          rule("when: {metric: cpu, above: 1%,", "  hold: soon}", do),
		`a.yaml:4: unknown step "explode": use flight, snapshot, pair, capture, diagnose or notify`: rule("when: {metric: cpu, above: 80%}", "do: [explode]"),
		`a.yaml:2: what is it to do? Write "do:" and a list of`:                                     rule("when: {metric: cpu, above: 80%}"),
		`a.yaml:3: longer than what? Write "longer: 50ms"`:                                          rule("when: {slow: bet}", do),
		`a.yaml:5: max_memory: 120% is no share up to 100%`:                                         rule("when: {metric: cpu, above: 80%}", do, "limits: {max_memory: 120%}"),
		`a.yaml:1: unknown field "rule": write "rules:" and a list below it`:                        "rule:\n  - name: a\n",
		`a.yaml:2: a rule is named with up to 64`:                                                   "rules:\n  - name: A B\n",
		`a.yaml:5: there are two rules named r`:                                                     rule("when: {metric: cpu, above: 80%}", do) + "  - name: r\n    when: {metric: cpu, above: 80%}\n    do: [snapshot]\n",
		`a.yaml:4: flight: "1h" is no time from 1s to 59s`:                                          rule("when: {metric: cpu, above: 80%}", "do: [{flight: 1h}]"),
	} {
		_, err := Parse("a.yaml", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// endless are texts that are small and would take a reader without bounds long.
func endless() map[string]string {
	const many = 60_000
	bomb := "rules:\n  - name: r\n    about: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := byte('b'); c <= 'k'; c++ {
		bomb += "    " + string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+",", 9) + "*" + string(c-1) + "]\n"
	}
	return map[string]string{
		"lists":         "rules: " + strings.Repeat("[", many) + strings.Repeat("]", many),
		"open lists":    "rules: " + strings.Repeat("[", many),
		"mappings":      "rules: " + strings.Repeat("{a: ", many),
		"entries":       "rules:\n  " + strings.Repeat("- ", many),
		"keys":          "rules:\n  " + strings.Repeat("? ", many),
		"alias bomb":    bomb,
		"indented":      indented(600),
		"merges itself": "rules:\n  - &r\n    <<: *r\n",
	}
}

func indented(n int) string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + " -\n")
	}
	return b.String()
}

func TestWhatIsNestedWithoutEndIsRefused(t *testing.T) {
	const deep = "a.yaml:%: more than 32 lists and mappings in each other are no rule"
	for name, want := range map[string]string{
		"lists": deep, "open lists": deep, "mappings": deep, "entries": deep, "keys": deep,
		"alias bomb":    "a.yaml:%: aliases (*name) and merges (<<) are not for rules: write it out",
		"merges itself": "a.yaml:%: aliases (*name) and merges (<<) are not for rules: write it out",
		"indented":      "a.yaml:%: sequence was used where mapping is expected",
	} {
		_, err := Parse("a.yaml", []byte(endless()[name]))
		var at *FileError
		if !errors.As(err, &at) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := strings.Replace(want, "%", strconv.Itoa(at.Line), 1); err.Error() != want {
			t.Errorf("%s\ngot  %v\nwant %s", name, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("presets.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("rules:\n- - a\n"))
	for _, text := range endless() {
		f.Add([]byte(text))
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		_, _ = Parse("fuzz.yaml", text) // whatever it says: it returns
	})
}

// The page has what the presets are for in both languages; it knows them by the
// English, word for word.
func TestThePageKnowsWhatThePresetsAreFor(t *testing.T) {
	words, err := os.ReadFile("../../web/src/rules/words.ts")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("presets.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defs, err := Parse("presets.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range defs {
		if want := fmt.Sprintf("%q: [%q, ", "about."+d.Name, d.About); !bytes.Contains(words, []byte(want)) {
			t.Errorf("web/src/rules/words.ts has no %s", want)
		}
	}
}
