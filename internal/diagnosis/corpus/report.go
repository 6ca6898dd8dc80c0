package corpus

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"text/tabwriter"
)

// The targets that a run of the corpus has to reach.
const (
	TargetRecall    = 0.95
	TargetPrecision = 0.90 // of warnings and worse
	TargetFunction  = 0.90 // of what was found
	TargetVerdict   = 5.0  // seconds, at most
)

// Tally counts over results.
type Tally struct {
	Expected int `json:"expected"`
	Found    int `json:"found"`
	// Weak were found, but as a notice only.
	Weak     int `json:"weak"`
	Function int `json:"right_function"`
	Line     int `json:"right_line"`
	Top      int `json:"top"`
	False    int `json:"false"`
}

func (t *Tally) add(m Match) {
	t.Expected++
	for _, c := range []struct {
		yes bool
		n   *int
	}{{m.Found, &t.Found}, {m.Weak, &t.Weak}, {m.Found && m.Function, &t.Function}, {m.Found && m.Line, &t.Line}, {m.Found && m.Top, &t.Top}} {
		if c.yes {
			*c.n++
		}
	}
}

// Recall is the share of the expected findings that were found.
func (t *Tally) Recall() float64 { return share(t.Found, t.Expected) }

// Told is the share of the expected findings that were reported at all, be it as a
// notice.
func (t *Tally) Told() float64 { return share(t.Found+t.Weak, t.Expected) }

// Precision is the share of the findings that are true.
func (t *Tally) Precision() float64 { return share(t.Found, t.Found+t.False) }

// RightFunction is the share of what was found that names the right function first.
func (t *Tally) RightFunction() float64 { return share(t.Function, t.Found) }

// RightLine is the share of what was found that names the right line first.
func (t *Tally) RightLine() float64 { return share(t.Line, t.Found) }

// share is NaN for nothing of nothing.
func share(part, whole int) float64 { return float64(part) / float64(whole) }

// Summary is what a run of the corpus comes to.
type Summary struct {
	Rules map[string]*Tally `json:"rules"`
	Ways  map[Way]*Tally    `json:"ways"`
	All   Tally             `json:"all"`
	// Programs that got a verdict, those of them that are healthy, and those of
	// the healthy that got a critical finding.
	Verdicts        int `json:"verdicts"`
	Healthy         int `json:"healthy"`
	HealthyCritical int `json:"healthy_critical"`
	Errors          int `json:"errors"`
	Skipped         int `json:"skipped"`
	// Seconds from the end of a capture to its verdict.
	MedianSeconds float64  `json:"median_seconds"`
	MaxSeconds    float64  `json:"max_seconds"`
	Missed        []string `json:"missed_targets"`
}

// Summarize counts the results.
func Summarize(results []Result) *Summary {
	s := &Summary{Rules: map[string]*Tally{}, Ways: map[Way]*Tally{}}
	var seconds []float64
	for _, r := range results {
		switch {
		case r.Skipped != "":
			s.Skipped++
			continue
		case r.Error != "":
			s.Errors++
			continue
		}
		s.Verdicts++
		seconds = append(seconds, r.Seconds)
		if r.Healthy {
			s.Healthy++
			s.HealthyCritical += min(1, r.Critical())
		}
		for _, m := range r.Expected {
			entry(s.Rules, m.Rule).add(m)
			entry(s.Ways, r.Way).add(m)
			s.All.add(m)
		}
		for _, f := range r.False {
			entry(s.Rules, f.Rule).False++
			entry(s.Ways, r.Way).False++
			s.All.False++
		}
	}
	if slices.Sort(seconds); len(seconds) > 0 {
		s.MedianSeconds, s.MaxSeconds = seconds[len(seconds)/2], seconds[len(seconds)-1]
	}
	s.judge()
	return s
}

func entry[K comparable](m map[K]*Tally, k K) *Tally {
	if m[k] == nil {
		m[k] = &Tally{}
	}
	return m[k]
}

// judge notes which targets are missed. A figure of nothing misses none.
func (s *Summary) judge() {
	atLeast := func(what string, got, want float64) {
		if got < want {
			s.Missed = append(s.Missed, fmt.Sprintf("%s is %.1f %%, below %.0f %%", what, 100*got, 100*want))
		}
	}
	if s.Verdicts == 0 {
		s.Missed = append(s.Missed, "no program got a verdict")
	}
	atLeast("recall", s.All.Recall(), TargetRecall)
	atLeast("precision of warnings and above", s.All.Precision(), TargetPrecision)
	atLeast("the right function", s.All.RightFunction(), TargetFunction)
	if s.HealthyCritical > 0 {
		s.Missed = append(s.Missed, fmt.Sprintf("healthy programs with a critical finding: %d, none is allowed", s.HealthyCritical))
	}
	if s.MaxSeconds > TargetVerdict {
		s.Missed = append(s.Missed, fmt.Sprintf("the slowest verdict took %.1f s, more than %.0f s", s.MaxSeconds, TargetVerdict))
	}
	if s.Errors > 0 {
		s.Missed = append(s.Missed, fmt.Sprintf("programs without a verdict: %d", s.Errors))
	}
}

// Print writes what was found of one program.
func (r Result) Print(w io.Writer) {
	verdict := "right"
	switch {
	case r.Skipped != "":
		verdict = "skipped: " + r.Skipped
	case r.Error != "":
		verdict = "ERROR: " + r.Error
	case !r.right():
		verdict = "WRONG"
	}
	fmt.Fprintf(w, "%-28s %-9s %5.1fs  %s\n", r.Program, r.Way, r.Seconds, verdict)
	for _, m := range r.Expected {
		switch {
		case m.Got == nil:
			fmt.Fprintf(w, "    missed    %s\n", m.Rule)
		case m.Weak:
			fmt.Fprintf(w, "    too weak  %v\n", m.Got)
		case !m.Function:
			fmt.Fprintf(w, "    misplaced %v\n", m.Got)
		case !m.Line:
			fmt.Fprintf(w, "    off line  %v\n", m.Got)
		default:
			fmt.Fprintf(w, "    found     %v\n", m.Got)
		}
		if m.Got != nil && !m.Top {
			fmt.Fprintf(w, "              but not before what is false, or its effect\n")
		}
	}
	for _, f := range r.False {
		fmt.Fprintf(w, "    false     %v\n", f)
	}
	for _, f := range r.All {
		if f.grave() && !slices.ContainsFunc(r.False, func(g Finding) bool { return g.ID == f.ID }) &&
			!slices.ContainsFunc(r.Expected, func(m Match) bool { return m.Got != nil && m.Got.ID == f.ID }) {
			fmt.Fprintf(w, "    also      %v\n", f)
		}
	}
}

// right reports whether there is nothing to better but the line.
func (r Result) right() bool {
	return len(r.False) == 0 && !slices.ContainsFunc(r.Expected, func(m Match) bool { return !m.Found || !m.Function })
}

// Print writes the tables.
func (s *Summary) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	header := func(what string) {
		fmt.Fprintf(t, "%s\texpected\tfound\trecall\ttold\tfalse\tprecision\tfunction\tline\tfirst\t\n", what)
	}
	row := func(name string, c *Tally) {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t\n", name, c.Expected, c.Found, percent(c.Recall()), percent(c.Told()), c.False,
			percent(c.Precision()), percent(c.RightFunction()), percent(c.RightLine()), percent(share(c.Top, c.Found)))
	}
	header("rule")
	for _, rule := range slices.Sorted(maps.Keys(s.Rules)) {
		row(rule, s.Rules[rule])
	}
	fmt.Fprintln(t, "\t\t\t\t\t\t\t\t\t\t")
	for _, way := range slices.Sorted(maps.Keys(s.Ways)) {
		row(string(way), s.Ways[way])
	}
	row("all", &s.All)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%d verdicts, %d of them on healthy programs, %d of those with a critical finding; %d errors, %d skipped\n",
		s.Verdicts, s.Healthy, s.HealthyCritical, s.Errors, s.Skipped)
	fmt.Fprintf(w, "time to verdict: median %.1f s, longest %.1f s\n", s.MedianSeconds, s.MaxSeconds)
	for _, m := range s.Missed {
		fmt.Fprintf(w, "missed target: %s\n", m)
	}
	return nil
}

func percent(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100*v)
}
