package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// verdict is what scripts read of a diagnosis.
type verdict struct {
	Schema   string
	Findings []finding
	Checked  []struct{ Rule, Verdict, Reason string }
}

type finding struct {
	Rule, Severity, Title, Summary string
	Score                          int
	Where                          []struct {
		Role, Function, File string
		Line                 int64
	}
	CausedBy *string `json:"caused_by"`
}

// diagnosis is what the centre says of a capture that has just ended.
func diagnosis(t *testing.T, server, capture string) verdict {
	t.Helper()
	out, code := ops(t, server, "diagnose", capture, "--json")
	if code != exitDone {
		t.Fatalf("diagnosing %s: exit code %d\n%s", capture, code, out)
	}
	var v verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("diagnosing %s: %v\n%s", capture, err, out)
	}
	if v.Schema != "opscenter.diagnosis/v1" || len(v.Checked) < 24 {
		t.Fatalf("schema %q with %d rules", v.Schema, len(v.Checked))
	}
	return v
}

// saysFirst checks that the first finding is a critical one of one of the rules,
// with the line to change first.
func (e evidence) saysFirst(t *testing.T, function string, line int64, rules ...string) {
	t.Helper()
	if len(e.verdict.Findings) == 0 {
		t.Fatalf("the diagnosis found nothing, want %v", rules)
	}
	f := e.verdict.Findings[0]
	t.Logf("diagnosed: %s %d %s", f.Severity, f.Score, f.Title)
	if !slices.Contains(rules, f.Rule) || f.Severity != "critical" || len(f.Where) == 0 {
		t.Errorf("the first finding is %s %s (%s), want a critical one of %v", f.Severity, f.Rule, f.Title, rules)
		return
	}
	if w := f.Where[0]; !strings.HasSuffix(w.Function, function) || w.Line != line {
		t.Errorf("the line to change first is %s at %s:%d, want %s at line %d", w.Function, w.File, w.Line, function, line)
	}
}

// isWell checks that nobody would be woken for it.
func (e evidence) isWell(t *testing.T) {
	t.Helper()
	for _, f := range e.verdict.Findings {
		if f.Severity != "notice" {
			t.Errorf("a healthy %s is diagnosed with %s %d: %s", e.Targets[0].Instance.Service, f.Severity, f.Score, f.Title)
		}
	}
}

// namesType checks that a finding says which objects are kept.
func (e evidence) namesType(t *testing.T, name string) {
	t.Helper()
	for _, f := range e.verdict.Findings {
		if strings.Contains(f.Title+f.Summary, name) {
			t.Logf("typed: %s", f.Summary)
			return
		}
	}
	t.Errorf("no finding names the type %s", name)
}

// strictQuery is the line on which a room asks for a player's limit while it is
// locked: the second such call of the file.
func strictQuery(t *testing.T) int64 {
	t.Helper()
	return sourceLineAfter(t, "game/room.go", "func (r *Room) placeStrict(", "rest, err := r.limits.Remaining(ctx, b.Player)")
}
