package cpu

import (
	"math"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/trace"
)

// load is how busy the processors are, and who waits for them.
type load struct {
	// Total is the CPU time in the profile, Cores how many that is on average.
	Total time.Duration
	Cores float64
	// Limit is how many cores the process may use; 0 = unknown.
	Limit float64
	// Assumed is what stands in for a Limit that is not known: the cores in use,
	// rounded up, for it had those at least.
	Assumed float64
	// Busy is the share of the time of the trace in which goroutines had the
	// processors (Go's Ps), 0 to 1; −1 = no trace tells. It is more than the CPU
	// time says where the machine, or the quota, stops the threads meanwhile.
	Busy float64
	// Queue is how long goroutines that were ready waited for a processor, for
	// each second that goroutines ran; −1 = no trace tells.
	Queue float64
	// Wait is how long a goroutine that was ready waited for a processor, on
	// average of all times; LongestWait the longest. 0 = no trace tells.
	Wait, LongestWait time.Duration
	// Starts is how often goroutines got a processor within the trace.
	Starts int64
	// Ready is how many goroutines were ready and waited, on average, or at one
	// moment if Snapshot is set; −1 = unknown.
	Ready    float64
	Snapshot bool
	// Requests are goroutines that serve a request, when they were counted.
	Requests int
	// Throttled is the share of the cgroup's periods in which it was stopped.
	Throttled float64
	procs     int
	measured  bool // Cores is known
	byWork    bool // goroutines queue only for processors that others of the process have
}

func loadOf(e *evidence.Evidence) load {
	l := load{
		Total: time.Duration(e.CPU.Total(e.CPU.Type("cpu"))), Limit: e.CPULimit(),
		Busy: -1, Queue: -1, Ready: -1, Requests: requests(e), procs: e.Procs(),
	}
	l.Cores, l.measured = e.CPUCores()
	l.Assumed = max(1, math.Ceil(l.Cores-countError))
	if r := e.Runtime; r != nil && r.Cgroup.Periods > 0 {
		l.Throttled = float64(r.Cgroup.ThrottledPeriods) / float64(r.Cgroup.Periods)
	}
	if l.ofTrace(e.Trace) {
		return l
	}
	if v, ok := e.Runtime.Mean("/sched/goroutines/runnable:goroutines"); ok {
		l.Ready = v
	} else if e.Dump != nil && l.procs > 0 {
		l.Ready, l.Snapshot = float64(max(0, running(e.Dump)-l.procs)), true
	}
	return l
}

// countError is by how much of a core a profile of samples may be too high.
const countError = 0.05

// running is how many goroutines of a dump have a processor or could use one. It
// does not tell which: the world is stopped for a dump, so that those that ran
// look like those that wait. Goroutines without code of the program, such as
// connections that are read by a server, are left out: in a quiet process they
// are the observer's.
func running(d *evidence.Goroutines) (n int) {
	for i := range d.Groups {
		g := &d.Groups[i]
		if (g.State == goroutines.Runnable || g.State == goroutines.Running) && g.Stack.Index(ofProgram) >= 0 {
			n += g.Count
		}
	}
	return n
}

func ofProgram(f *evidence.Frame) bool {
	return f.Origin == evidence.OwnCode || f.Origin == evidence.LibraryCode
}

func (l *load) ofTrace(t *evidence.Trace) bool {
	if t == nil || t.Duration <= 0 {
		return false
	}
	var all, running, runnable time.Duration
	var starts int64
	for i := range t.Groups {
		g := &t.Groups[i]
		run := ran(g)
		all += run
		l.Starts += g.Starts
		if !background(g.Func) {
			running += run
			runnable += g.Times[trace.StateRunnable]
			starts += g.Starts
			l.LongestWait = max(l.LongestWait, g.MaxLatency)
		}
	}
	if running <= 0 {
		return false
	}
	l.Wait = runnable / time.Duration(max(1, starts))
	l.Queue = float64(runnable) / float64(running)
	l.Ready = float64(runnable) / float64(t.Duration)
	if l.procs > 0 {
		l.Busy = min(1, float64(all)/float64(t.Duration)/float64(l.procs))
	}
	return true
}

// ran is how long goroutines of a group had a processor.
func ran(g *trace.Group) time.Duration {
	return g.Times[trace.StateRunning] + g.Times[trace.StateAssist]
}

// background tells the goroutines that give way to all others, or that work for
// the observer: that they wait for a processor is nobody's trouble.
func background(start string) bool {
	for _, p := range []string{"runtime.", "runtime/", "github.com/opscenter/opscenter/agent", "net/http/pprof."} {
		if strings.HasPrefix(start, p) {
			return start != "runtime.main"
		}
	}
	return false
}

// full is the use of a limit from which on work waits for processors: the
// guide's 80 %.
const full = 0.8

// Use is the share of what the process can get that is in use, 0 to 1. Where the
// limit is not known, Assumed counts as all of it. A process whose goroutines
// queue for processors, or that is throttled, has used up what it can get even
// if that is less than its limit, for it may share the machine.
func (l *load) Use() float64 {
	use := l.ofLimit()
	if !l.idle() {
		use = max(use, l.Busy)
	}
	if l.queues() || l.Throttled >= 0.25 {
		use = max(use, full)
	}
	return use
}

// ofLimit is the share of the limit that was really used, 0 to 1.
func (l *load) ofLimit() float64 {
	limit := l.Limit
	if limit == 0 {
		limit = max(1, l.Assumed)
	}
	return min(1, l.Cores/limit)
}

// queues reports whether there is at least twice as much to do as can be done:
// as many goroutines wait as there are processors, and they wait as long as
// others run. A little waiting is ordinary: at 80 % use of two processors a
// random stream of work waits about as long as it runs, and idle programs take
// some time to wake a thread. Nor is it a queue if hundreds of goroutines that
// are woken at once, by tickers or a broadcast, wait for one another in a
// process that uses hardly any CPU: that much is idle then. Nor, with byWork, if
// the processors stood free for much of the trace, for then it was the machine that
// let the threads wait which were to take the goroutines.
func (l *load) queues() bool {
	idle := l.idle() || (l.measured || l.Busy >= 0) && max(l.ofLimit(), l.Busy) < leastBusy ||
		l.byWork && l.Busy >= l.ofLimit() && l.Busy < leastQueued && l.Throttled < 0.25
	return !idle && l.Ready >= float64(l.processors()) && (l.Queue < 0 || l.Queue >= 1)
}

// idle reports whether the process uses so little CPU time that processors are not
// its trouble, whatever the trace says: a goroutine has a processor (Go's P) also
// while its thread waits for a real one, so that what little is computed beside a
// busy neighbour takes much of the trace.
func (l *load) idle() bool { return l.measured && l.ofLimit() < nothing && l.Throttled < 0.25 }

// nothing is the use, in CPU time, below which a process is idle. A neighbour was
// measured to take four fifths of the time in which goroutines had a processor:
// without one such a process would still leave half of its limit free.
const nothing = 0.1

// processors are how many goroutines can run at once, or could at least.
func (l *load) processors() int {
	if l.procs > 0 {
		return l.procs
	}
	return max(1, int(l.Assumed))
}

// leastQueued is the part of the time in which goroutines must have had the
// processors for those that wait to be a queue: a random stream of work makes as
// many wait as there are processors from three quarters on (M/M/2), with a margin
// for work that comes in bursts. On a machine whose neighbours took two thirds of
// it, healthy servers had theirs for 0.38 and 0.57, with 5.2 and 2.5 goroutines
// ready. It tells nothing of what the runtime itself takes the CPU for, such as
// timers and starting goroutines.
const leastQueued = 0.6

// leastBusy is the use below which a process is idle even if something outside
// takes three quarters of what it could get.
const leastBusy = 0.25

// Others reports whether somebody has to wait because the processors are busy:
// nearly all of what there is is in use, and either goroutines queue for it or
// requests do. A batch job that has the machine for itself makes nobody wait.
func (l *load) Others() bool {
	if l.Use() < full {
		return false
	}
	return l.queues() || l.Requests >= 2*l.processors()
}

// Stolen is the part of the time in which goroutines had a processor that they
// did not get CPU time for: other programs on the machine, or the quota, had
// it. 0 where it is not known.
func (l *load) Stolen() float64 {
	if l.Busy <= 0 || l.procs == 0 {
		return 0
	}
	return max(0, 1-l.Cores/(l.Busy*float64(l.procs)))
}

// crowded is the part that others must take for it to be told beside what the process
// used: by less, its two digits do not change what one reads in them.
const crowded = 0.1

// Got is how many cores others on the machine left to a process that could have used
// more; 0 = about all of its limit, or unknown. A quota is a limit, and no neighbour.
func (l *load) Got() float64 {
	if s := l.Stolen(); s >= crowded && l.Use() >= full && l.Limit >= float64(l.procs) && l.Throttled == 0 {
		return max(l.Cores, float64(l.procs)*(1-s))
	}
	return 0
}

// half is the part of the trace below which processors are free more often than
// not, so that those who wait do so for a thread to be woken: a neighbour delays
// that, and it is none of the program's work.
const half = 0.5

// free reports whether a trace says so.
func (l *load) free() bool { return l.Busy >= 0 && max(l.ofLimit(), l.Busy) < half }

// serverRoots begin the goroutines in which servers call a program.
var serverRoots = []string{
	"net/http.(*conn).serve", "net/http.(*http2serverConn).runHandler", "golang.org/x/net/http2.(*serverConn).runHandler",
	"net/http/internal/http2.(*serverConn).runHandler", "google.golang.org/grpc.(*Server).", "github.com/valyala/fasthttp.(*workerPool).workerFunc",
	"github.com/cloudwego/", "storj.io/drpc/", "github.com/smallnest/rpcx/", "net/rpc.(*service).call",
}

// serves reports whether the stack is that of a request: a server's goroutine
// within the program's code.
func serves(s evidence.Stack) bool {
	at := s.Outermost(evidence.Named(serverRoots...))
	return at > 0 && s[:at].Index(func(f *evidence.Frame) bool { return f.Origin == evidence.OwnCode }) >= 0
}

func requests(e *evidence.Evidence) (n int) {
	for _, g := range []*evidence.Goroutines{e.GoroutinesBefore, e.Goroutines, e.Dump} {
		if g == nil {
			continue
		}
		sum := 0
		for i := range g.Groups {
			if serves(g.Groups[i].Stack) {
				sum += g.Groups[i].Count
			}
		}
		n = max(n, sum)
	}
	return n
}

// withScheduling adds to what a cause of wake-ups costs by itself the part of
// the scheduler's work that it makes: count of all times that goroutines got a
// processor. Without a trace the scheduler's work is its own if it is the lesser
// part.
func (l *load) withScheduling(cost, scheduling, count int64) int64 {
	switch {
	case l.Starts > 0:
		return cost + int64(float64(scheduling)*min(1, float64(count)/float64(l.Starts)))
	case cost > scheduling:
		return cost + scheduling
	}
	return cost
}
