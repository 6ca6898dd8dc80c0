// Package ruletest runs rules on cases written as text. It is for tests alone.
package ruletest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/evidence/evidencetest"
	"github.com/opscenter/opscenter/internal/ops"
)

var update = flag.Bool("update", false, "write what the rules say as what is wanted")

const want = "-- want --\n"

// Run judges the cases testdata/<rule>/*.txt of each rule, written as
// evidencetest has it, and compares with what follows "-- want --". Every rule
// must have a case in which it finds something, and one in which it does not.
// Each is also run without any evidence, which no rule may take for health.
func Run(t *testing.T, rules []rule.Rule) {
	t.Helper()
	for _, r := range rules {
		t.Run(string(r.ID), func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join("testdata", string(r.ID), "*.txt"))
			if err != nil {
				t.Fatal(err)
			}
			verdicts := map[ops.Verdict]int{}
			for _, file := range files {
				t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
					verdicts[judge(t, r, file)]++
				})
			}
			if verdicts[ops.VerdictFound] == 0 || len(files) == verdicts[ops.VerdictFound] {
				t.Errorf("%d cases, %d of them with a finding: a rule needs a fault and what looks like one", len(files), verdicts[ops.VerdictFound])
			}
			if res := r.Judge(&evidence.Evidence{Window: 10 * time.Second, Frames: evidence.NewFrames("")}); res.Verdict == ops.VerdictFound || res.Verdict == ops.VerdictOK {
				t.Errorf("without any evidence it says %q", res.Verdict)
			} else {
				complete(t, "reason without evidence", res.Reason)
			}
		})
	}
}

func judge(t *testing.T, r rule.Rule, file string) ops.Verdict {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	input, wanted, _ := strings.Cut(string(b), want)
	res := r.Judge(evidencetest.Parse(t, input))
	check(t, r, res)
	got := Render(res)
	if *update {
		if err := os.WriteFile(file, []byte(strings.TrimRight(input, "\n")+"\n"+want+got), 0o644); err != nil {
			t.Fatal(err)
		}
		return res.Verdict
	}
	if got != wanted {
		t.Errorf("got:\n%s\nwant:\n%s", got, wanted)
	}
	return res.Verdict
}

// Render writes a result as people read it, English above Chinese.
func Render(res rule.Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n  %s\n", res.Verdict, res.Reason.EN, res.Reason.ZH)
	if n := res.Next; n != nil {
		fmt.Fprintf(&b, "next: %v %v %s\n", n.Kinds, n.Duration, n.Fidelity)
	}
	for _, f := range res.Findings {
		fmt.Fprintf(&b, "\n%s %d, %s confidence, scenario %d: %s\n  %s\n", f.Severity(), f.Score, f.Confidence, f.Scenario, f.Title.EN, f.Title.ZH)
		for _, p := range f.Where {
			fmt.Fprintf(&b, "%s: %s %s:%d\n", p.Role, p.Function, p.File, p.Line)
		}
		both(&b, "summary", f.Summary)
		both(&b, "explanation", f.Explanation)
		for _, r := range f.Remedies {
			both(&b, "remedy", r)
		}
		for _, p := range f.Evidence {
			proof(&b, "evidence", p)
		}
		for _, p := range f.CounterEvidence {
			proof(&b, "against", p)
		}
		if n := f.Next; n != nil {
			fmt.Fprintf(&b, "next: %v %v %s\n", n.Kinds, n.Duration, n.Fidelity)
		}
	}
	return b.String()
}

func proof(b *strings.Builder, name string, p ops.Proof) {
	fmt.Fprintf(b, "%s: %s %s=%.4g %s", name, p.Artifact, p.Metric, p.Value, p.Unit)
	if p.Share != 0 {
		fmt.Fprintf(b, " (share %.3f)", p.Share)
	}
	fmt.Fprintf(b, ": %s\n  %s\n", p.Text.EN, p.Text.ZH)
}

func both(b *strings.Builder, name string, t ops.Text) {
	fmt.Fprintf(b, "%s: %s\n  %s\n", name, t.EN, t.ZH)
}

// check holds every result to what a reader may rely on.
func check(t *testing.T, r rule.Rule, res rule.Result) {
	t.Helper()
	complete(t, "reason", res.Reason)
	complete(t, "name", r.Name)
	if (res.Verdict == ops.VerdictFound) != (len(res.Findings) > 0) {
		t.Errorf("verdict %s with %d findings", res.Verdict, len(res.Findings))
	}
	ids := map[string]bool{}
	for _, f := range res.Findings {
		if f.Rule != r.ID || f.Scenario != r.Scenario {
			t.Errorf("the finding is one of rule %q, scenario %d", f.Rule, f.Scenario)
		}
		if f.Confidence == "" || len(f.Evidence) == 0 || len(f.Remedies) == 0 || len(f.Where) == 0 {
			t.Errorf("%s lacks confidence, evidence, remedies or a place", f.ID())
		}
		if ids[f.ID()] {
			t.Errorf("two findings have the id %s", f.ID())
		}
		ids[f.ID()] = true
		for _, x := range append([]ops.Text{f.Title, f.Summary, f.Explanation}, f.Remedies...) {
			complete(t, f.ID(), x)
		}
		for _, p := range append(f.Evidence, f.CounterEvidence...) {
			complete(t, f.ID()+" "+p.Metric, p.Text)
			if p.Artifact == "" || p.Metric == "" || p.Share < 0 || p.Share > 1.0001 {
				t.Errorf("%s: %+v is no whole proof", f.ID(), p)
			}
		}
	}
}

// complete checks that a sentence is there in both languages, and that no
// argument of it went astray.
func complete(t *testing.T, what string, x ops.Text) {
	t.Helper()
	if x.EN == "" || x.ZH == "" || strings.Contains(x.EN+x.ZH, "%!") {
		t.Errorf("%s: %q / %q", what, x.EN, x.ZH)
	}
	if !strings.ContainsFunc(x.ZH, func(c rune) bool { return unicode.Is(unicode.Han, c) }) {
		t.Errorf("%s is not written in Chinese: %q", what, x.ZH)
	}
}
