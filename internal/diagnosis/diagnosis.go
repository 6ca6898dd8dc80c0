// Package diagnosis says what is wrong with a process: it lets every rule look
// at the evidence of one window, links what they found as cause and effect, and
// puts the worst first. It has no clock and does no I/O, and knows nothing of
// where evidence comes from or who reads the answer.
package diagnosis

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/diagnosis/cpu"
	"github.com/opscenter/opscenter/internal/diagnosis/locks"
	"github.com/opscenter/opscenter/internal/diagnosis/memory"
	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/diagnosis/waits"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// revision is counted up whenever a rule, a threshold or a text changes what is
// said of the same evidence: what was said before is then said anew.
const revision = 43

// Rules are all rules, by id.
func Rules() []rule.Rule {
	all := slices.Concat(cpu.Rules(), locks.Rules(), waits.Rules(), memory.Rules())
	slices.SortFunc(all, func(a, b rule.Rule) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Version names the rule set: its revision, and which rules there are.
func Version() string {
	h := sha256.New()
	for _, r := range Rules() {
		fmt.Fprintf(h, "%s/%d\n", r.ID, r.Scenario)
	}
	return fmt.Sprintf("%d-%s", revision, hex.EncodeToString(h.Sum(nil)[:4]))
}

// Diagnose lets every rule look at the evidence. A rule that fails on it says
// that it could not check; the others are heard. The error is that of the context,
// which is looked at between rules.
func Diagnose(ctx context.Context, e *evidence.Evidence) (ops.Diagnosis, error) {
	d := ops.Diagnosis{Rules: Version(), Instance: e.Instance, Start: e.Start, Window: e.Window, Losses: e.Losses}
	if d.Instance.Process.GOMAXPROCS == 0 {
		d.Instance.Process.GOMAXPROCS = e.Procs()
	}
	for _, r := range Rules() {
		if err := ctx.Err(); err != nil {
			return ops.Diagnosis{}, err
		}
		res := judge(r, e)
		d.Checks = append(d.Checks, ops.Check{Rule: r.ID, Verdict: res.Verdict, Reason: res.Reason, Next: res.Next})
		for _, f := range res.Findings {
			f.Where = slices.DeleteFunc(f.Where, func(p ops.Place) bool { return p.Function == "" })
			d.Findings = append(d.Findings, f)
		}
	}
	link(&d)
	moments(&d, e.Trace)
	sights(&d, e)
	order(d.Findings)
	return d, nil
}

// order puts the worst first, and of what is equally bad the cause before its effects.
func order(all []ops.Finding) {
	depth := make(map[string]int, len(all))
	for _, f := range all {
		for i := range all {
			if f.ID() != all[i].ID() && causes(all, &all[i], &f) {
				depth[f.ID()]++
			}
		}
	}
	slices.SortStableFunc(all, func(a, b ops.Finding) int {
		return cmp.Or(cmp.Compare(rank(b), rank(a)), cmp.Compare(b.Score, a.Score),
			cmp.Compare(depth[a.ID()], depth[b.ID()]), cmp.Compare(a.ID(), b.ID()))
	})
}

func rank(f ops.Finding) int {
	switch f.Severity() {
	case ops.Critical:
		return 3
	case ops.Warning:
		return 2
	}
	return 1
}

// judge holds a rule that panics: evidence is made of foreign bytes, and one
// rule's mistake must not cost the others' verdicts.
func judge(r rule.Rule, e *evidence.Evidence) (res rule.Result) {
	defer func() {
		if p := recover(); p != nil {
			reason := fmt.Sprintf("%v at %s", p, panicSite())
			res = rule.CouldNotCheck(rule.Say("the rule failed on this capture, which is a fault of OPS Center: please report it with the bundle (%s)",
				"這條規則在此擷取上失敗，是 OPS Center 的錯誤：請附上擷取包回報（%s）", reason), nil)
		}
	}()
	return r.Judge(e)
}

// panicSite is where the panic that is being recovered from began, as far as it
// helps a report.
func panicSite() string {
	lines := strings.Split(string(debug.Stack()), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "panic(") && i+2 < len(lines) {
			return strings.TrimSpace(lines[i+2])
		}
	}
	return "?"
}
