package rules

import (
	"cmp"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Standing is a rule on an instance.
type Standing struct {
	Instance ops.Instance
	State    ops.RuleState
	// Told is false until the instance has said how the rule stands there.
	Told bool
}

// Match is an instance that a rule is for.
type Match struct {
	Instance ops.Instance
	// Value is the rule's metric now, as far as the heartbeat knows it, and Holds
	// whether the condition would hold at this moment.
	Value float64
	Known bool
	Holds bool
	// Problem says why the rule cannot work there, Code in one of "no-rules",
	// "no-limit" and "not-told"; empty = it can.
	Problem, Code string
}

// Standings says how a rule stands on every instance that it is for.
func (c *Center) Standings(d Def) (out []Standing) {
	for _, inst := range c.cfg.Fleet.Instances() {
		if !d.Of(inst) {
			continue
		}
		s := Standing{Instance: inst}
		c.mu.Lock()
		for _, st := range c.reports[inst.ID].States {
			if st.Rule == d.Name && st.Revision == d.Revision {
				s.State, s.Told = st, true
			}
		}
		c.mu.Unlock()
		if !s.Told && !d.Enabled {
			continue
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Standing) int {
		return cmp.Or(cmp.Compare(a.Instance.Key().String(), b.Instance.Key().String()), cmp.Compare(a.Instance.ID, b.Instance.ID))
	})
	return out
}

// Flights says how the flight recorders stand, by instance.
func (c *Center) Flights() map[ops.InstanceID]ops.FlightState {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[ops.InstanceID]ops.FlightState{}
	for id, r := range c.reports {
		if r.Flight.On || r.Flight.Refused != "" {
			out[id] = r.Flight
		}
	}
	return out
}

// Preview says which instances a rule would be for, and where its condition holds
// at this moment.
func (c *Center) Preview(d Def) (out []Match) {
	for _, inst := range c.cfg.Fleet.Instances() {
		if !d.Of(inst) {
			continue
		}
		m := Match{Instance: inst}
		c.mu.Lock()
		_, told := c.reports[inst.ID]
		c.mu.Unlock()
		if !told {
			m.Code, m.Problem = "no-rules", "it has not said that it knows rules: its agent may be older than rules, or away"
		}
		if d.Trigger.Metric != "" {
			m.Value, m.Known = valueOf(d.Trigger.Metric, inst)
			if t := d.Trigger; m.Known && t.TimesUsual == 0 {
				m.Holds = t.Below && m.Value < t.Level || !t.Below && m.Value >= t.Level
			}
			if !m.Known && m.Problem == "" {
				m.Code, m.Problem = unknown(d.Trigger.Metric)
			}
		}
		out = append(out, m)
	}
	return out
}

func unknown(metric string) (code, text string) {
	switch metric {
	case "memory", "live-heap":
		return "no-limit", "it has no memory limit to have a share of"
	}
	return "not-told", "its heartbeat does not tell this number: the instance itself knows it"
}

// valueOf reads a metric off the heartbeat.
func valueOf(metric string, inst ops.Instance) (float64, bool) {
	h := inst.Heartbeat
	if h.At.IsZero() || time.Since(h.At) > time.Minute {
		return 0, false
	}
	cores := float64(max(h.GOMAXPROCS, 1))
	if h.CPUQuotaCores > 0 {
		cores = min(cores, h.CPUQuotaCores)
	}
	limit := float64(h.MemoryLimitBytes)
	switch metric {
	case "cpu":
		return h.CPUCores / cores, true
	case "throttled":
		return h.ThrottledFraction, true
	case "goroutines":
		return float64(h.Goroutines), true
	case "memory":
		return float64(h.RSSBytes) / max(limit, 1), limit > 0
	case "live-heap":
		return float64(h.LiveHeapBytes) / max(limit, 1), limit > 0
	case "rss-bytes":
		return float64(h.RSSBytes), true
	case "live-heap-bytes":
		return float64(h.LiveHeapBytes), true
	case "sched-p99":
		return h.SchedLatencyP99Second, true
	case "mutex-wait":
		return h.MutexWaitRate, true
	case "gc":
		return h.GCCPUFraction, true
	case "pool-waiters":
		return float64(h.PoolWaiters), true
	}
	return 0, false
}
