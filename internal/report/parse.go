package report

import (
	"encoding/json"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Parse reads what JSON wrote. Texts are in the one language that it was written
// in, whichever is asked of them. Corrupt if it is of another schema.
func Parse(b []byte) ([]ops.Diagnosis, []ops.Outlier, error) {
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, nil, ops.Errorf(ops.Corrupt, "the diagnosis cannot be read: %w", err)
	}
	switch head.Schema {
	case Schema:
		var d diagnosis
		if err := json.Unmarshal(b, &d); err != nil {
			return nil, nil, ops.Errorf(ops.Corrupt, "the diagnosis cannot be read: %w", err)
		}
		return []ops.Diagnosis{d.words()}, nil, nil
	case SetSchema:
		var set diagnosisSet
		if err := json.Unmarshal(b, &set); err != nil {
			return nil, nil, ops.Errorf(ops.Corrupt, "the diagnoses cannot be read: %w", err)
		}
		var all []ops.Diagnosis
		for _, d := range set.Instances {
			all = append(all, d.words())
		}
		var out []ops.Outlier
		for _, o := range set.Fleet {
			out = append(out, ops.Outlier{Instance: ops.InstanceID(o.Instance), Metric: o.Metric, Value: o.Value, Median: o.Median, Unit: o.Unit, Text: same(o.Text)})
		}
		return all, out, nil
	}
	return nil, nil, ops.Errorf(ops.Corrupt, "the diagnosis has the schema %q: this program reads %s; use a newer one", head.Schema, Schema)
}

func same(s string) ops.Text { return ops.Text{EN: s, ZH: s} }

func (d diagnosis) words() ops.Diagnosis {
	out := ops.Diagnosis{Rules: d.Rules, Window: duration(d.Window.Seconds)}
	out.Instance.Project, out.Instance.Service, out.Instance.ID = ops.ProjectName(d.Instance.Project), ops.ServiceName(d.Instance.Service), ops.InstanceID(d.Instance.ID)
	out.Instance.Build.GoVersion, out.Instance.Process.GOMAXPROCS = d.Instance.Go, d.Instance.GOMAXPROCS
	if d.Window.Start != nil {
		out.Start = *d.Window.Start
	}
	for _, f := range d.Findings {
		out.Findings = append(out.Findings, f.words())
	}
	for _, c := range d.Checked {
		out.Checks = append(out.Checks, ops.Check{Rule: ops.RuleID(c.Rule), Verdict: ops.Verdict(c.Verdict), Reason: same(c.Reason), Next: c.NextCapture.words()})
	}
	for _, l := range d.Losses {
		out.Losses = append(out.Losses, ops.Loss{Kind: ops.Kind(l.Artifact), Reason: ops.LossReason(l.Reason), Message: l.Message})
	}
	return out
}

func (f finding) words() ops.Finding {
	out := ops.Finding{
		Rule: ops.RuleID(f.Rule), Scenario: f.Scenario, Score: f.Score, Confidence: ops.Confidence(f.Confidence),
		Title: same(f.Title), Summary: same(f.Summary), Explanation: same(f.Explanation), Next: f.NextCapture.words(),
		Evidence: proofWords(f.Evidence), CounterEvidence: proofWords(f.CounterEvidence),
	}
	for _, r := range f.Remedies {
		out.Remedies = append(out.Remedies, same(r))
	}
	for _, p := range f.Where {
		out.Where = append(out.Where, ops.Place{Role: ops.Role(p.Role), Function: p.Function, File: p.File, Line: p.Line})
	}
	if f.CausedBy != nil {
		out.CausedBy = *f.CausedBy
	}
	return out
}

func proofWords(all []proof) (out []ops.Proof) {
	for _, p := range all {
		x := ops.Proof{Artifact: ops.Kind(p.Artifact), Metric: p.Metric, Value: p.Value, Unit: p.Unit, Share: p.Share, Text: same(p.Text)}
		if m := p.Moment; m != nil {
			x.Moment = &ops.Moment{From: duration(m.From), To: duration(m.To), Goroutines: m.Goroutines}
		}
		for _, at := range p.At {
			x.At = append(x.At, ops.Place{Function: at.Function, Line: at.Line})
		}
		out = append(out, x)
	}
	return out
}

func (n *next) words() *ops.NextCapture {
	if n == nil {
		return nil
	}
	out := &ops.NextCapture{Duration: duration(n.Seconds), Fidelity: ops.Fidelity(n.Fidelity), Remote: n.Remote}
	for _, k := range n.Kinds {
		out.Kinds = append(out.Kinds, ops.Kind(k))
	}
	return out
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
