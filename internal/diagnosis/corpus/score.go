package corpus

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
)

// Finding is what is read of a finding of opscenter.diagnosis/v1.
type Finding struct {
	ID       string  `json:"id"`
	Rule     string  `json:"rule"`
	Severity string  `json:"severity"`
	Score    int     `json:"score"`
	Title    string  `json:"title"`
	Where    []Place `json:"where"`
	CausedBy *string `json:"caused_by"`
}

// grave is a warning or worse.
func (f Finding) grave() bool { return f.Severity == "warning" || f.Severity == "critical" }

func (f Finding) place() Place {
	if len(f.Where) == 0 {
		return Place{}
	}
	return f.Where[0]
}

func (f Finding) String() string {
	return fmt.Sprintf("%s %s %d at %s", f.Severity, f.Rule, f.Score, f.place())
}

// ReadDiagnosis reads what ops diagnose --json prints for one instance.
func ReadDiagnosis(b []byte) ([]Finding, error) {
	var d struct {
		Schema   string    `json:"schema"`
		Findings []Finding `json:"findings"`
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("the diagnosis is no JSON: %w", err)
	}
	if d.Schema != "opscenter.diagnosis/v1" {
		return nil, fmt.Errorf("the diagnosis is %q, not opscenter.diagnosis/v1", d.Schema)
	}
	return d.Findings, nil
}

// Match is what became of an expected finding.
type Match struct {
	Rule string `json:"rule"`
	// Found: a rule that could answer reported a warning or worse. Weak: it only
	// took notice.
	Found bool `json:"found"`
	Weak  bool `json:"weak"`
	// Function and Line are right; a right line is in a right function.
	Function bool `json:"right_function"`
	Line     bool `json:"right_line"`
	// Top: nothing that is not true was reported before it, nor any effect of it.
	Top bool     `json:"top"`
	Got *Finding `json:"got"`
}

// Result is what became of one program, captured one way.
type Result struct {
	Program  string  `json:"program"`
	Way      Way     `json:"way"`
	Healthy  bool    `json:"healthy"`
	Expected []Match `json:"expected"`
	// False are warnings and worse that are not true of the program.
	False []Finding `json:"false"`
	All   []Finding `json:"all"`
	// Seconds from the end of the capture to the verdict.
	Seconds float64 `json:"seconds"`
	// Skipped and Error say why there is no verdict; empty = there is one.
	Skipped string `json:"skipped,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Critical counts the false findings that are critical.
func (r Result) Critical() int {
	n := 0
	for _, f := range r.False {
		if f.Severity == "critical" {
			n++
		}
	}
	return n
}

// Judge compares findings, in the order in which they were reported, with a label.
func Judge(p Program, way Way, findings []Finding) Result {
	r := Result{Program: p.Name, Way: way, Healthy: p.Healthy, All: findings}
	taken := make([]bool, len(findings))
	answered := map[string]bool{} // by ID: true findings
	for _, e := range p.Findings {
		if e.Only != "" && e.Only != way {
			continue
		}
		m := Match{Rule: e.Rule}
		if at := choose(e, findings, taken); at >= 0 {
			f := findings[at]
			taken[at] = true
			answered[f.ID] = true
			m.Got = &f
			m.Found, m.Weak = f.grave(), !f.grave()
			m.Function, m.Line = e.right(f.place())
		}
		r.Expected = append(r.Expected, m)
	}
	for i, f := range findings {
		if taken[i] || !f.grave() || p.accepts(f) || explained(f, findings, answered) || p.couldAnswer(f, way) {
			continue
		}
		r.False = append(r.False, f)
	}
	for i := range r.Expected {
		m := &r.Expected[i]
		m.Top = m.Got != nil && !slices.ContainsFunc(findings, func(f Finding) bool {
			untrue := slices.ContainsFunc(r.False, func(g Finding) bool { return g.ID == f.ID })
			return (untrue || explained(f, findings, map[string]bool{m.Got.ID: true})) && before(findings, f, *m.Got)
		})
	}
	return r
}

// before reports whether a was reported before b.
func before(findings []Finding, a, b Finding) bool {
	at := func(f Finding) int { return slices.IndexFunc(findings, func(g Finding) bool { return g.ID == f.ID }) }
	return at(a) < at(b)
}

// accepts: what is also true of a healthy program is nevertheless not critical.
func (p Program) accepts(f Finding) bool {
	return slices.Contains(p.Acceptable, f.Rule) && (!p.Healthy || f.Severity != "critical")
}

// couldAnswer: what only the agent can show is no error where it is shown anyway.
func (p Program) couldAnswer(f Finding, way Way) bool {
	return slices.ContainsFunc(p.Findings, func(e Expected) bool { return e.Only != "" && e.Only != way && e.answers(f.Rule) })
}

// choose returns the finding that answers e best: right line, right function,
// then its rule, then the other rules; -1 = none.
func choose(e Expected, findings []Finding, taken []bool) int {
	best, at := 0, -1
	for i, f := range findings {
		if taken[i] || !e.answers(f.Rule) {
			continue
		}
		worth := 1
		function, line := e.right(f.place())
		for n, yes := range []bool{f.Rule == e.Rule, f.grave(), function, line} {
			if yes {
				worth += 1 << (n + 1)
			}
		}
		if worth > best {
			best, at = worth, i
		}
	}
	return at
}

// right reports whether a place is one of those expected.
func (e Expected) right(got Place) (function, line bool) {
	if e.Anywhere {
		return true, true
	}
	for _, want := range e.Places() {
		if path.Base(got.File) == path.Base(want.File) && got.Line == want.Line {
			return true, true // however inlining has named the closure there
		}
		function = function || plain(got.Function) == plain(want.Function)
	}
	return function, false
}

// explained reports whether a finding is an effect of one that is true.
func explained(f Finding, findings []Finding, answered map[string]bool) bool {
	for range findings { // a chain is no longer than that
		if f.CausedBy == nil || *f.CausedBy == "" {
			return false
		}
		if answered[*f.CausedBy] {
			return true
		}
		at := slices.IndexFunc(findings, func(g Finding) bool { return g.ID == *f.CausedBy })
		if at < 0 {
			return false
		}
		f = findings[at]
	}
	return false
}
