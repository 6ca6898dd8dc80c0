// Package report is how a diagnosis reads: as JSON, for programs, and as a note,
// for people. It knows the words of a finding and nothing of how one is made.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// The schemas of what JSON writes; docs/formats has them in full.
const (
	Schema    = "opscenter.diagnosis/v1"
	SetSchema = "opscenter.diagnosis-set/v1"
)

// JSON writes the diagnoses of one window: one as an object of Schema, several as
// an object of SetSchema with the instances in their order and what tells them
// apart. Fields keep their meaning for ever.
func JSON(all []ops.Diagnosis, outliers []ops.Outlier, l ops.Lang) ([]byte, error) {
	var v any
	if len(all) == 1 {
		v = object(all[0], l)
	} else {
		set := diagnosisSet{Schema: SetSchema, Instances: make([]diagnosis, len(all)), Fleet: make([]outlier, len(outliers))}
		for i, d := range all {
			set.Instances[i] = object(d, l)
		}
		for i, o := range outliers {
			set.Fleet[i] = outlier{Instance: string(o.Instance), Metric: o.Metric, Value: o.Value, Median: o.Median, Unit: o.Unit, Text: o.Text.In(l)}
		}
		v = set
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // function names have < and >, and are read by people
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("writing a diagnosis: %w", err)
	}
	return b.Bytes(), nil
}

type diagnosisSet struct {
	Schema    string      `json:"schema"`
	Instances []diagnosis `json:"instances"`
	Fleet     []outlier   `json:"fleet"`
}

type outlier struct {
	Instance string  `json:"instance"`
	Metric   string  `json:"metric"`
	Value    float64 `json:"value"`
	Median   float64 `json:"median"`
	Unit     string  `json:"unit"`
	Text     string  `json:"text"`
}

type diagnosis struct {
	Schema   string    `json:"schema"`
	Rules    string    `json:"rules"`
	Lang     string    `json:"lang"`
	Instance instance  `json:"instance"`
	Window   window    `json:"window"`
	Findings []finding `json:"findings"`
	Checked  []checked `json:"checked"`
	Losses   []loss    `json:"losses"`
}

type instance struct {
	Project    string `json:"project"`
	Service    string `json:"service"`
	ID         string `json:"id"`
	Go         string `json:"go"`
	GOMAXPROCS int    `json:"gomaxprocs"`
}

type window struct {
	Start   *time.Time `json:"start"` // null = unknown
	Seconds float64    `json:"seconds"`
}

type finding struct {
	Rule            string   `json:"rule"`
	Scenario        int      `json:"scenario"`
	Severity        string   `json:"severity"`
	Score           int      `json:"score"`
	Confidence      string   `json:"confidence"`
	Title           string   `json:"title"`
	Summary         string   `json:"summary"`
	Explanation     string   `json:"explanation"`
	Remedies        []string `json:"remedies"`
	ID              string   `json:"id"`
	Where           []place  `json:"where"`
	Evidence        []proof  `json:"evidence"`
	CounterEvidence []proof  `json:"counter_evidence"`
	CausedBy        *string  `json:"caused_by"`
	NextCapture     *next    `json:"next_capture"`
}

type place struct {
	Role     string `json:"role"`
	Function string `json:"function"`
	File     string `json:"file"`
	Line     int    `json:"line"`
}

type proof struct {
	Artifact string  `json:"artifact"`
	Metric   string  `json:"metric"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Share    float64 `json:"share"`
	Text     string  `json:"text"`
	Moment   *moment `json:"moment,omitempty"`
	At       []seen  `json:"at,omitempty"`
}

type seen struct {
	Function string `json:"function"`
	Line     int    `json:"line"`
}

type moment struct {
	From       float64 `json:"from_seconds"`
	To         float64 `json:"to_seconds"`
	Goroutines []int64 `json:"goroutines"`
}

type checked struct {
	Rule        string `json:"rule"`
	Verdict     string `json:"verdict"`
	Reason      string `json:"reason"`
	NextCapture *next  `json:"next_capture"`
}

type next struct {
	Kinds    []string `json:"kinds"`
	Seconds  float64  `json:"seconds"`
	Fidelity string   `json:"fidelity"`
	Command  string   `json:"command"`
	Remote   string   `json:"remote,omitempty"`
}

type loss struct {
	Artifact string `json:"artifact"`
	Reason   string `json:"reason"`
	Message  string `json:"message"`
}

func object(d ops.Diagnosis, l ops.Lang) diagnosis {
	out := diagnosis{
		Schema: Schema, Rules: d.Rules, Lang: string(l),
		Instance: instance{Project: string(d.Instance.Project), Service: string(d.Instance.Service), ID: string(d.Instance.ID), Go: d.Instance.Build.GoVersion, GOMAXPROCS: d.Instance.Process.GOMAXPROCS},
		Window:   window{Seconds: round(d.Window.Seconds())},
		Findings: make([]finding, 0, len(d.Findings)), Checked: make([]checked, 0, len(d.Checks)), Losses: make([]loss, 0, len(d.Losses)),
	}
	if !d.Start.IsZero() {
		start := d.Start.UTC()
		out.Window.Start = &start
	}
	for _, f := range d.Findings {
		out.Findings = append(out.Findings, findingObject(f, d.Instance, l))
	}
	for _, c := range d.Checks {
		out.Checked = append(out.Checked, checked{Rule: string(c.Rule), Verdict: string(c.Verdict), Reason: c.Reason.In(l), NextCapture: nextObject(c.Next, d.Instance)})
	}
	for _, x := range d.Losses {
		out.Losses = append(out.Losses, loss{Artifact: string(x.Kind), Reason: string(x.Reason), Message: x.Message})
	}
	return out
}

func findingObject(f ops.Finding, i ops.Instance, l ops.Lang) finding {
	out := finding{
		Rule: string(f.Rule), Scenario: f.Scenario, Severity: string(f.Severity()), Score: f.Score, Confidence: string(f.Confidence),
		Title: f.Title.In(l), Summary: f.Summary.In(l), Explanation: f.Explanation.In(l), ID: f.ID(), NextCapture: nextObject(f.Next, i),
		Remedies: make([]string, 0, len(f.Remedies)), Where: make([]place, 0, len(f.Where)), Evidence: proofs(f.Evidence, l), CounterEvidence: proofs(f.CounterEvidence, l),
	}
	for _, r := range f.Remedies {
		out.Remedies = append(out.Remedies, r.In(l))
	}
	for _, p := range f.Where {
		out.Where = append(out.Where, place{string(p.Role), p.Function, p.File, p.Line})
	}
	if f.CausedBy != "" {
		out.CausedBy = &f.CausedBy
	}
	return out
}

func proofs(all []ops.Proof, l ops.Lang) []proof {
	out := make([]proof, 0, len(all))
	for _, p := range all {
		x := proof{Artifact: string(p.Artifact), Metric: p.Metric, Value: round(p.Value), Unit: p.Unit, Share: round(p.Share), Text: p.Text.In(l)}
		if m := p.Moment; m != nil {
			x.Moment = &moment{m.From.Seconds(), m.To.Seconds(), m.Goroutines}
		}
		for _, at := range p.At {
			x.At = append(x.At, seen{at.Function, at.Line})
		}
		out = append(out, x)
	}
	return out
}

// round keeps the digits that a sampled figure can have.
func round(v float64) float64 {
	var out float64
	if _, err := fmt.Sscanf(fmt.Sprintf("%.6g", v), "%g", &out); err != nil {
		return 0 // no number, which JSON could not carry
	}
	if out != out || out > 1e300 || out < -1e300 {
		return 0
	}
	return out
}

func nextObject(n *ops.NextCapture, i ops.Instance) *next {
	if n == nil {
		return nil
	}
	out := &next{Kinds: make([]string, 0, len(n.Kinds)), Seconds: n.Duration.Seconds(), Fidelity: string(n.Fidelity), Command: Command(*n, i), Remote: n.Remote}
	for _, k := range n.Kinds {
		out.Kinds = append(out.Kinds, string(k))
	}
	return out
}

// Command is what takes that capture of that instance.
func Command(n ops.NextCapture, i ops.Instance) string {
	var b strings.Builder
	centre := i.Service != "" && i.Source != "url" // else no centre knows it
	switch {
	case n.Remote != "" && ops.ValidName(n.Remote) && !strings.Contains(n.Remote, "."):
		b.WriteString("ops capture " + n.Remote)
		centre = true
	case n.Remote != "":
		b.WriteString("ops capture SERVICE")
		centre = true
	case !centre && i.Address != "":
		b.WriteString("ops diagnose " + i.Address)
	case !centre:
		b.WriteString("ops diagnose http://HOST:PORT/debug/pprof")
	case i.ID == "":
		b.WriteString("ops capture " + string(i.Service))
	default:
		b.WriteString("ops capture " + string(i.Service) + "/" + string(i.ID))
	}
	if n.Duration > 0 {
		fmt.Fprintf(&b, " -d %v", n.Duration)
	}
	if !centre {
		return b.String()
	}
	if len(n.Kinds) > 0 {
		kinds := make([]string, len(n.Kinds))
		for k := range n.Kinds {
			kinds[k] = string(n.Kinds[k])
		}
		b.WriteString(" --kinds " + strings.Join(kinds, ","))
	}
	if n.Fidelity != "" {
		b.WriteString(" --fidelity " + string(n.Fidelity))
	}
	return b.String()
}
