package agent

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// reasons say why something happened, in parts that a reader's language can be made
// of; String is the English.
type reasons []*agentv1.RuleReason

// The codes are the protocol's.
const (
	whyCall     = "call"     // name, line; took, longer
	whyCalls    = "calls"    // name, line; calls, within, took, longer
	whyQuantile = "quantile" // name, line; share, calls, within, took, longer, quantile
	whyMetric   = "metric"   // metric, unit, side; value, level, usual, hold

	whyBudget   = "budget"         // budget, per, left
	whyCooldown = "cooldown"       // left
	whyFinished = "finished"       // fired
	whyMemory   = "memory-ceiling" // share, ceiling
	whyCPU      = "cpu-ceiling"    // share, ceiling
	whyActing   = "other-acting"   // rule

	whyCrowded = "crowded" // calls, within, longer

	whyNoCollect = "no-collect" // error
	whyDropped   = "dropped"    // captures, bytes
	whyEnds      = "ends"
	whySignal    = "signal" // signal
	whyPanic     = "panic"  // value
)

type (
	numbers = map[string]float64
	texts   = map[string]string
)

func because(code string, n numbers, t texts) *agentv1.RuleReason {
	for k, v := range n {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			delete(n, k)
		}
	}
	for k, v := range t {
		t[k] = strings.ToValidUTF8(v, "�")
	}
	return &agentv1.RuleReason{Code: code, Numbers: n, Words: t}
}

// codes tell whether two reasons differ in more than a countdown.
func (rs reasons) codes() (out []string) {
	for _, r := range rs {
		out = append(out, r.Code)
	}
	return out
}

func (rs reasons) same(others reasons) bool { return slices.Equal(rs.codes(), others.codes()) }

var holding = []string{whyCall, whyCalls, whyQuantile, whyMetric}

// String joins the parts: what held, then what was in the way.
func (rs reasons) String() string {
	var b strings.Builder
	for i, r := range rs {
		switch {
		case i == 0:
		case slices.Contains(holding, rs[i-1].Code) && !slices.Contains(holding, r.Code):
			b.WriteString("; nothing was done: ")
		default:
			b.WriteString("; ")
		}
		b.WriteString(english(r))
	}
	return b.String()
}

func english(r *agentv1.RuleReason) string {
	n, t := r.Numbers, r.Words
	span := func(key string) time.Duration { return time.Duration(math.Round(n[key] * float64(time.Second))) }
	call := fmt.Sprintf("%s took %v", t["name"], span("took").Round(10*time.Microsecond))
	if t["line"] != "" {
		call += " (" + t["line"] + ")"
	}
	switch r.Code {
	case whyCall:
		return fmt.Sprintf("%s, %v or longer", call, span("longer"))
	case whyCalls:
		return fmt.Sprintf("%.0f calls within %v took %v or longer; the last: %s", n["calls"], span("within"), span("longer"), call)
	case whyQuantile:
		return fmt.Sprintf("%.2g %% of %.0f calls within %v took %v or longer, so p%g is above it; the last: %s",
			100*n["share"], n["calls"], span("within"), span("longer"), 100*n["quantile"], call)
	case whyMetric:
		return metricReason(r, span("hold"))
	case whyBudget:
		return fmt.Sprintf("its budget of %.0f within %v is used up for %v more", n["budget"], span("per"), span("left"))
	case whyCooldown:
		return fmt.Sprintf("it cools down for %v more", span("left"))
	case whyFinished:
		return fmt.Sprintf("it has fired %.0f times, which is all it may", n["fired"])
	case whyMemory:
		return fmt.Sprintf("the process is at %.0f %% of its memory limit, above the ceiling of %.0f %%", 100*n["share"], 100*n["ceiling"])
	case whyCPU:
		return fmt.Sprintf("the process uses %.0f %% of its cores, above the ceiling of %.0f %%", 100*n["share"], 100*n["ceiling"])
	case whyActing:
		return fmt.Sprintf("rule %s is acting, and a process is examined by one rule at a time", t["rule"])
	case whyCrowded:
		return fmt.Sprintf("%.0f calls within %v took %v or longer: only the longest of them counts now, and a higher threshold would leave room for the rare ones", n["calls"], span("within"), span("longer"))
	case whyNoCollect:
		return "it could not collect: " + t["error"]
	case whyDropped:
		return fmt.Sprintf("no centre came for it, and %.0f captures or %.0f MiB are the most that wait for one", n["captures"], n["bytes"]/(1<<20))
	case whyEnds:
		return "the process ends"
	case whySignal:
		return "the process was asked to end (" + t["signal"] + ")"
	case whyPanic:
		return "the process panicked: " + t["value"]
	}
	return r.Code
}

func metricReason(r *agentv1.RuleReason, hold time.Duration) string {
	i := slices.IndexFunc(metricKinds, func(m metricKind) bool { return m.name == r.Words["metric"] })
	if i < 0 {
		return r.Code
	}
	word := metricKinds[i].unit.words
	out := fmt.Sprintf("%s is %s", r.Words["metric"], word(r.Numbers["value"]))
	if v, is := r.Numbers["usual"]; is {
		out += ", usually " + word(v)
	}
	if v, is := r.Numbers["level"]; is {
		out += fmt.Sprintf(", %s %s", r.Words["side"], word(v))
	}
	if hold > 0 {
		out += fmt.Sprintf(" for %v", hold)
	}
	return out
}
