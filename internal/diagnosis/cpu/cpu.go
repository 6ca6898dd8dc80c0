// Package cpu has the rules about what uses the processors, and who has to wait
// for them. It knows nothing of locks, pools or memory but what they cost here.
package cpu

import (
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/trace"
)

// Rules of this package.
func Rules() []rule.Rule {
	return []rule.Rule{
		passwordHashing,
	}
}

// load is how busy the processors are.
type load struct {
	// Total is the CPU time in the profile, Cores how many that is on average.
	Total time.Duration
	Cores float64
	// Limit is how many cores the process may use; 0 = unknown.
	Limit float64
	// Queue is how long goroutines that were ready waited for a processor, for
	// each second that goroutines ran; −1 = no trace tells.
	Queue float64
	// Throttled is the share of the cgroup's periods in which it was stopped.
	Throttled float64
}

func loadOf(e *evidence.Evidence) load {
	l := load{Total: time.Duration(e.CPU.Total(e.CPU.Type("cpu"))), Limit: e.CPULimit(), Queue: -1}
	l.Cores, _ = e.CPUCores()
	if e.Trace != nil {
		var running, runnable time.Duration
		for i := range e.Trace.Groups {
			t := &e.Trace.Groups[i].Times
			running += t[trace.StateRunning] + t[trace.StateAssist]
			runnable += t[trace.StateRunnable]
		}
		if running > 0 {
			l.Queue = float64(runnable) / float64(running)
		}
	}
	if r := e.Runtime; r != nil && r.Cgroup.Periods > 0 {
		l.Throttled = float64(r.Cgroup.ThrottledPeriods) / float64(r.Cgroup.Periods)
	}
	return l
}

// full is the use of a limit from which on work waits for processors: the
// guide's 80 %.
const full = 0.8

// Use is the share of the limit that is in use, 0 to 1. Where the limit is not
// known, one core counts as all of it. A process whose goroutines queue for
// processors, or that is throttled, has used up what it can get even if that is
// less than its limit, for it may share the machine.
func (l load) Use() float64 {
	limit := l.Limit
	if limit == 0 {
		limit = 1
	}
	use := min(1, l.Cores/limit)
	// As much queueing as running means that there is twice as much to do as can be
	// done; a few per cent are ordinary.
	if l.Queue >= 1 || l.Throttled >= 0.25 {
		use = max(use, full)
	}
	return use
}
