package rules

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Quantity says a metric's value with its unit.
func Quantity(v float64, unit ops.RuleUnit) string {
	switch unit {
	case ops.RuleShare:
		return fmt.Sprintf("%.3g %%", 100*v)
	case ops.RuleSeconds:
		return time.Duration(v * float64(time.Second)).String()
	case ops.RuleBytes:
		return fmt.Sprintf("%.4g MiB", v/(1<<20))
	case ops.RuleByteRate:
		return fmt.Sprintf("%.3g MiB/min", v*60/(1<<20))
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// span writes a time as a person would: 6h, not 6h0m0s.
func span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// words writes the rule in one line each, in the file's own words.
func (d *Def) words() {
	t, b := d.Trigger, d.Bounds
	switch {
	case t.Signal != "" && t.Quantile > 0:
		d.When = fmt.Sprintf("p%g of slow %s ≥ %s within %s", 100*t.Quantile, t.Signal, span(t.Longer), span(t.Within))
	case t.Signal != "":
		d.When = fmt.Sprintf("slow %s ≥ %s, %d× within %s", t.Signal, span(t.Longer), t.Times, span(t.Within))
	default:
		unit, _ := unitOf(t.Metric)
		var parts []string
		switch {
		case t.Below:
			parts = append(parts, "< "+Quantity(t.Level, unit))
		case t.Level > 0:
			parts = append(parts, "≥ "+Quantity(t.Level, unit))
		}
		if t.TimesUsual > 0 {
			parts = append(parts, fmt.Sprintf("≥ %g× usual", t.TimesUsual))
		}
		d.When = t.Metric + " " + strings.Join(parts, ", ")
		if t.Hold > 0 {
			d.When += " for " + span(t.Hold)
		}
	}
	for _, a := range d.Actions {
		word := string(a.Kind)
		switch a.Kind {
		case ops.RuleFlight:
			word += " " + span(a.Last)
		case ops.RuleCapture:
			word += " " + span(a.For)
		}
		for i, k := range a.Kinds {
			word += map[bool]string{true: " ", false: ", "}[i == 0] + string(k)
		}
		d.Do = append(d.Do, word)
	}
	if d.Notify {
		d.Do = append(d.Do, "notify")
	}
	d.Limits = fmt.Sprintf("%d× per %s, cooldown %s", b.Budget, span(b.Per), span(b.Cooldown))
	if b.StopAfter > 0 {
		d.Limits += fmt.Sprintf(", stop after %d", b.StopAfter)
	}
	if b.MaxMemory > 0 {
		d.Limits += fmt.Sprintf(", memory ≤ %.0f %%", 100*b.MaxMemory)
	}
	if b.MaxCPU > 0 {
		d.Limits += fmt.Sprintf(", cpu ≤ %.3g %%", 100*b.MaxCPU)
	}
}

// Unit is what the rule's number is counted in.
func (d *Def) Unit() ops.RuleUnit {
	switch unit, known := unitOf(d.Trigger.Metric); {
	case known:
		return unit
	case d.Trigger.Quantile > 0:
		return ops.RuleShare
	}
	return ops.RuleCount
}
