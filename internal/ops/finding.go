package ops

import (
	"math"
	"time"
)

// Lang is a language that the product speaks, by its BCP 47 tag.
type Lang string

// The languages. Whatever is not Traditional Chinese is answered in English.
const (
	English            Lang = "en"
	TraditionalChinese Lang = "zh-TW"
)

// Text is a sentence in every language of the product.
type Text struct{ EN, ZH string }

// In returns the text in that language.
func (t Text) In(l Lang) string {
	if l == TraditionalChinese {
		return t.ZH
	}
	return t.EN
}

// RuleID names a rule of diagnosis; it never changes its meaning.
type RuleID string

// Severity is how bad a finding is.
type Severity string

// The severities, and the scores from which on they apply.
const (
	Critical Severity = "critical" // ≥ 75
	Warning  Severity = "warning"  // ≥ 50
	Notice   Severity = "notice"   // ≥ 25
)

// SeverityOf returns the severity of a score; "" below 25, which is no finding.
func SeverityOf(score int) Severity {
	switch {
	case score >= 75:
		return Critical
	case score >= 50:
		return Warning
	case score >= 25:
		return Notice
	}
	return ""
}

// Score is how bad a value is, 0 to 100: it is 75 where the value is x75, and
// nears 100 with ever larger ones. The curve is that of JDK Mission Control's
// rules: 100·(1 − e^(k·v)) with k = ln(0.25)/x75. Values below zero, and those
// that are no number, score 0.
func Score(value, x75 float64) int {
	if !(value > 0) || !(x75 > 0) {
		return 0
	}
	return int(math.Round(100 * (1 - math.Exp(math.Log(0.25)/x75*value))))
}

// Confidence is how sure a finding is of its cause.
type Confidence string

// The confidences. What rests on one source, or on data with losses, is never high.
const (
	High   Confidence = "high"
	Medium Confidence = "medium"
	Low    Confidence = "low"
)

// Role is what a place in the code has to do with a finding.
type Role string

// The roles.
const (
	RoleHold    Role = "hold"    // releases the lock that it held, or holds it
	RoleWait    Role = "wait"    // waits
	RoleIO      Role = "io"      // does I/O, or sleeps
	RoleCall    Role = "call"    // calls what costs
	RoleSend    Role = "send"    // sends to a channel
	RoleReceive Role = "receive" // receives from it
	RoleAlloc   Role = "alloc"   // allocates
	RoleCreate  Role = "create"  // starts goroutines
	RoleAcquire Role = "acquire" // takes something out of a pool
)

// Place is a line of code.
type Place struct {
	Role     Role
	Function string // as in a profile: "main.(*Room).PlaceBet"
	File     string
	Line     int // 0 = unknown
}

// Proof is a figure of an artifact that speaks for or against a finding, and
// what it says in words.
type Proof struct {
	// Artifact is the kind that it was read from; several may agree.
	Artifact Kind
	// Metric names the figure in the field's terms: "delay_seconds", "cpu_share".
	Metric string
	Value  float64
	Unit   string
	// Share of the artifact's total, 0 to 1; 0 = it has none.
	Share float64
	Text  Text
	// Moment is where in a trace one sees it; nil = nowhere in particular.
	Moment *Moment
	// At is where in a profile or a snapshot one sees it: in the stacks that go
	// through any of these. Line 0 is the whole function; empty = in all of the file.
	At []Place
}

// Moment is a stretch of a trace and who to look at.
type Moment struct {
	From, To   time.Duration // since the trace began
	Goroutines []int64       // the one that shows it best first
}

// NextCapture is what would answer what this one could not.
type NextCapture struct {
	Kinds    []Kind
	Duration time.Duration
	Fidelity Fidelity
	// Remote is where the one to capture is reached, as those who call it name it:
	// a service, or a host with or without its port. Empty = the same instance.
	Remote string
}

// Finding is a verdict of a rule: what is wrong, where, how that is known, and
// what to do.
type Finding struct {
	Rule RuleID
	// Scenario of the guide, 1 to 6; 0 = none.
	Scenario   int
	Score      int // 0 to 100
	Confidence Confidence
	// Title is a line; Summary two sentences for whoever is on call; Explanation
	// what happens and why, for whoever has to change the code.
	Title, Summary, Explanation Text
	Remedies                    []Text // the quickest first
	// Where begins with the line to change first.
	Where           []Place
	Evidence        []Proof
	CounterEvidence []Proof
	// CausedBy is the ID of the finding that this one is an effect of; "" = none.
	CausedBy string
	// Next is a capture that would make it surer; nil = none needed.
	Next *NextCapture
}

// ID is the finding's name, the same in every capture: its rule and its place.
func (f Finding) ID() string {
	if len(f.Where) == 0 {
		return string(f.Rule)
	}
	return string(f.Rule) + "/" + f.Where[0].Function
}

// Severity of the finding's score.
func (f Finding) Severity() Severity { return SeverityOf(f.Score) }

// Verdict is how a rule ended.
type Verdict string

// The verdicts.
const (
	VerdictFound         Verdict = "found"
	VerdictOK            Verdict = "ok"
	VerdictCouldNotCheck Verdict = "could_not_check"
	VerdictNotApplicable Verdict = "not_applicable"
)

// Check says what became of one rule.
type Check struct {
	Rule    RuleID
	Verdict Verdict
	Reason  Text
	// Next is the capture that would answer what could not be checked.
	Next *NextCapture
}

// Diagnosis is what the rules say of one instance in one window.
type Diagnosis struct {
	// Rules is the version of the rule set that said it.
	Rules    string
	Instance Instance
	Start    time.Time // zero = unknown
	Window   time.Duration
	Findings []Finding // by severity, score and ID
	Checks   []Check   // one for each rule, by ID
	Losses   []Loss
}

// Judged counts the rules that could look at something, and those that lacked
// evidence.
func (d Diagnosis) Judged() (judged, blind int) {
	for _, c := range d.Checks {
		switch c.Verdict {
		case VerdictFound, VerdictOK:
			judged++
		case VerdictCouldNotCheck:
			blind++
		}
	}
	return judged, blind
}

// Outlier is a figure in which one instance differs from its siblings of the
// same capture.
type Outlier struct {
	Instance InstanceID
	// Metric in the field's terms: "cpu_cores", "goroutines".
	Metric        string
	Value, Median float64
	Unit          string
	Text          Text
}

// Findings are what the rules said of a capture, as it is kept.
type Findings struct {
	// Rules is the version of the rule set.
	Rules string
	Made  time.Time // to the millisecond
	// Bodies are opscenter.diagnosis/v1, or a set of them, by language.
	Bodies map[Lang][]byte
}
