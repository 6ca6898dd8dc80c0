// Package rule is what the rules of diagnosis are written in: how one ends, how
// its sentences and figures read in both languages. It knows no rule.
package rule

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// Rule judges one kind of fault.
type Rule struct {
	ID       ops.RuleID
	Scenario int // of the guide; 0 = none
	// Name is what the fault is called, in a few words.
	Name ops.Text
	// Judge looks at the evidence and says how it is. It must not change it, has
	// no clock and does no I/O. Rules do not know of each other; what is a cause
	// of what is decided once they all have spoken.
	Judge func(e *evidence.Evidence) Result
}

// Result is how a rule ends: with findings, or with the reason why there are none.
type Result struct {
	Findings []ops.Finding
	Verdict  ops.Verdict
	Reason   ops.Text
	Next     *ops.NextCapture
}

// Found ends a rule with what it found. Findings without a score of a notice
// are left out; the reason says what was looked at if none is left.
func Found(reason ops.Text, findings ...ops.Finding) Result {
	r := Result{Verdict: ops.VerdictOK, Reason: reason}
	for _, f := range findings {
		if f.Severity() != "" {
			r.Findings = append(r.Findings, f)
			r.Verdict = ops.VerdictFound
		}
	}
	return r
}

// OK ends a rule that had all it needed and found nothing. The reason gives the
// figure that was looked at.
func OK(reason ops.Text) Result { return Result{Verdict: ops.VerdictOK, Reason: reason} }

// CouldNotCheck ends a rule that lacks evidence: which, and the capture that
// would bring it (nil = none can).
func CouldNotCheck(reason ops.Text, next *ops.NextCapture) Result {
	return Result{Verdict: ops.VerdictCouldNotCheck, Reason: reason, Next: next}
}

// NotApplicable ends a rule that asks for something this process does not have,
// such as a CPU quota.
func NotApplicable(reason ops.Text) Result {
	return Result{Verdict: ops.VerdictNotApplicable, Reason: reason}
}

// Needs is CouldNotCheck for kinds of artifact that are missing, with the
// reason of the loss where one is stated.
func Needs(e *evidence.Evidence, kinds ...ops.Kind) Result {
	var names []string
	var why string
	missing := slices.DeleteFunc(slices.Clone(kinds), e.Has)
	if len(missing) == 0 {
		missing = kinds // they are there, and not enough: two of them, or one of the window
	}
	for _, k := range missing {
		names = append(names, string(k))
		// A gap is in what there is: it is not why something is not there.
		if l := e.Lost(k); l != nil && why == "" && l.Reason != ops.LossGap {
			why = l.Message
		}
	}
	list := ops.Text{EN: strings.Join(names, ", "), ZH: strings.Join(names, "、")}
	reason := Say("needs %s, which this capture does not have", "需要 %s，但這次擷取沒有", list)
	if why != "" {
		reason = Say("needs %[1]s, which this capture does not have: %[2]s", "需要 %[1]s，但這次擷取沒有：%[2]s", list, why)
	}
	return CouldNotCheck(reason, &ops.NextCapture{Kinds: kinds})
}

// Say makes a sentence in both languages. Arguments of type ops.Text are put in
// in the sentence's own language; use %[1]s where the order differs.
func Say(en, zh string, args ...any) ops.Text {
	in := func(l ops.Lang, format string) string {
		out := make([]any, len(args))
		for i, a := range args {
			if t, ok := a.(ops.Text); ok {
				a = t.In(l)
			}
			out[i] = a
		}
		if len(out) == 0 {
			return format
		}
		return fmt.Sprintf(format, out...)
	}
	return ops.Text{EN: in(ops.English, en), ZH: in(ops.TraditionalChinese, zh)}
}

// Pct writes a share of 0 to 1 as "87 %".
func Pct(share float64) string {
	switch p := share * 100; {
	case p != p:
		return "0 %"
	case p > 0 && p < 0.1:
		return "< 0.1 %"
	case p < 10:
		return fmt.Sprintf("%.1f %%", p)
	default:
		return fmt.Sprintf("%.0f %%", p)
	}
}

// Dur writes a duration with the digits that matter: "38.0 s", "1.82 ms".
func Dur(d time.Duration) string {
	abs := d.Abs()
	unit, name := float64(time.Second), "s"
	switch {
	case abs >= 2*time.Hour:
		return d.Round(time.Minute).String()
	case abs < time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	case abs < time.Millisecond:
		unit, name = float64(time.Microsecond), "µs"
	case abs < time.Second:
		unit, name = float64(time.Millisecond), "ms"
	}
	v := float64(d) / unit
	digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	return fmt.Sprintf("%.*f %s", digits, v, name)
}

// Bytes writes a size: "38 MiB".
func Bytes(n int64) string {
	if n < 0 {
		return "−" + humanize.IBytes(uint64(-n))
	}
	return humanize.IBytes(uint64(n))
}

// Count writes a number: "104,211".
func Count(n int64) string { return humanize.Comma(n) }

// Goroutines writes an average number of goroutines, as the subject of a sentence:
// "3.2 goroutines", "有 3.2 個 goroutine".
func Goroutines(n float64) ops.Text {
	switch {
	case n >= 9.95:
		return Say("%s goroutines", "有 %s 個 goroutine", Count(int64(math.Round(n))))
	case n < 0.05:
		return Say("hardly any goroutine", "幾乎沒有 goroutine")
	case n >= 0.95 && n < 1.05:
		return Say("one goroutine", "有 1 個 goroutine")
	}
	return Say("%.1f goroutines", "有 %.1f 個 goroutine", n)
}

// At makes a place of a frame; the file is shown by its base name, which is what
// people look for.
func At(role ops.Role, f *evidence.Frame) ops.Place {
	if f == nil {
		return ops.Place{Role: role}
	}
	return ops.Place{Role: role, Function: f.Function, File: f.Told(), Line: f.Line}
}

// Line writes a place as "room.go:24".
func Line(f *evidence.Frame) string {
	p := At("", f)
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Short is a function's name without its package's path and type arguments:
// "main.(*Room).PlaceBet" stays, "github.com/a/b/ws.(*Hub[go.shape.int]).Run"
// becomes "ws.(*Hub[...]).Run".
func Short(f *evidence.Frame) string {
	if f == nil {
		return "?"
	}
	name := f.Function
	if from, to := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']'); from >= 0 && from < to {
		name = name[:from] + "[...]" + name[to+1:]
	}
	head, _, _ := strings.Cut(name, "(")
	head, _, _ = strings.Cut(head, "[")
	return name[strings.LastIndexByte(head, '/')+1:]
}

// Code is a function's short name as titles have it, in the marks of code.
func Code(f *evidence.Frame) string { return "`" + Short(f) + "`" }

// Lower returns the lower of two confidences.
func Lower(a, b ops.Confidence) ops.Confidence {
	order := map[ops.Confidence]int{ops.Low: 0, ops.Medium: 1, ops.High: 2}
	if order[a] < order[b] {
		return a
	}
	return b
}
