package diagnosis

import (
	"slices"

	"github.com/opscenter/opscenter/internal/diagnosis/cpu"
	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// bond says how two findings belong together.
type bond uint8

const (
	// twin: both tell of the same fault; the second is dropped and its proofs go
	// to the first.
	twin bond = iota
	// effect: the second is what the first does to others at the same place; it
	// stays and points to its cause, which is as bad as what it does.
	effect
	// aftermath: the second is what the first does to everyone. Others may have a
	// part in it, so that it needs a cause that is a fault by itself (a warning),
	// and does not make it worse.
	aftermath
)

// bonds are tried in their order: what is dropped or explained by an earlier one
// is not asked again.
var bonds = []struct {
	cause, effect ops.RuleID
	bond          bond
	about         func(cause, effect *ops.Finding) bool
}{
	// The same lock, told by what is done under it, and by the waits for it.
	{"deadlock", "lock-held-across-io", twin, samePlace},
	{"deadlock", "lock-contention", twin, samePlace},
	{"deadlock", "channel-backpressure", twin, samePlace},
	{"deadlock", "goroutine-leak", twin, samePlace},
	{"deadlock", "unbounded-concurrency", aftermath, always},
	{"channel-backpressure", "lock-held-across-io", effect, sendsUnderLock},
	{"log-contention", "lock-held-across-io", twin, samePlace},
	{"log-contention", "lock-contention", twin, samePlace},
	{"log-contention", "syscall-blocked", twin, always},
	{"lock-held-across-io", "lock-contention", twin, samePlace},
	{"lock-held-across-io", "downstream-wait", twin, samePlace},
	{"lock-held-across-io", "pool-exhausted", effect, samePlace},
	{"cpu-password-hashing", "lock-contention", effect, samePlace},
	{"cpu-hot-path", "lock-contention", effect, hotAlone},
	{"lock-contention", "cpu-hot-path", twin, samePlace},

	// The same hot code, told by its name and by its cost.
	{"cpu-password-hashing", "cpu-hot-path", twin, samePlace},
	{"memory-limit-thrash", "cpu-gc-pressure", twin, always},
	{"timer-storm", "cpu-hot-path", effect, samePlace},
	{"goroutine-churn", "cpu-hot-path", effect, samePlace},
	{"cpu-hot-path", "cpu-gc-pressure", effect, collectedBeside},
	{"cpu-gc-pressure", "cpu-hot-path", effect, mostlyCollects},
	{"cpu-password-hashing", "cpu-gc-pressure", effect, makesGarbage},

	// A pool that nobody gives back to is not merely too small, and one behind a
	// slow downstream is not too small at all.
	{"pool-leaked", "pool-exhausted", twin, samePlace},
	{"pool-leaked", "goroutine-leak", effect, samePlace},
	{"downstream-wait", "pool-exhausted", effect, samePlace},

	// A pool of HTTP connections whose bodies stay open is told by its bodies.
	{"response-body-leak", "pool-leaked", twin, openBodies},
	// Whoever receives is slow because of what it waits for itself.
	{"lock-held-across-io", "slow-call", effect, samePlace},
	{"downstream-wait", "channel-backpressure", effect, samePlace},
	{"pool-exhausted", "channel-backpressure", effect, samePlace},
	{"pool-leaked", "channel-backpressure", effect, samePlace},

	// Goroutines that pile up behind something are its effect.
	{"response-body-leak", "goroutine-leak", twin, always},
	{"timer-leak", "goroutine-leak", effect, samePlace}, // both are true of what ranges over a ticker
	{"timer-leak", "heap-growth", effect, samePlace},
	{"goroutine-leak", "unbounded-concurrency", twin, samePlace},
	{"channel-backpressure", "goroutine-leak", twin, samePlace},
	{"lock-held-across-io", "goroutine-leak", effect, samePlace},
	{"lock-held-across-io", "unbounded-concurrency", effect, samePlace},
	{"lock-contention", "unbounded-concurrency", effect, samePlace},
	{"pool-leaked", "unbounded-concurrency", effect, samePlace},
	{"downstream-wait", "unbounded-concurrency", effect, samePlace},
	{"pool-exhausted", "unbounded-concurrency", effect, samePlace},
	{"channel-backpressure", "unbounded-concurrency", effect, samePlace},

	// What leaks also fills the heap.
	{"response-body-leak", "heap-growth", aftermath, always},
	{"goroutine-leak", "heap-growth", effect, samePlace},
	{"goroutine-leak", "heap-growth", effect, oneForEach},
	{"goroutine-leak", "retained-objects", effect, samePlace},
	{"heap-growth", "retained-objects", twin, samePlace},
	{"heap-growth", "memory-limit-thrash", aftermath, always},
	{"memory-limit-thrash", "retained-objects", effect, belowNeed},
	{"retained-objects", "memory-limit-thrash", aftermath, always},

	// Whoever uses up the CPU makes others wait for it.
	{"thread-explosion", "syscall-blocked", twin, samePlace},
	{"syscall-blocked", "thread-explosion", aftermath, always},
	{"cpu-password-hashing", "cpu-throttled", aftermath, always},
	{"cpu-hot-path", "cpu-throttled", aftermath, always},
	{"cpu-gc-pressure", "cpu-throttled", aftermath, always},
	{"cpu-throttled", "scheduler-latency", aftermath, always},
	{"cpu-password-hashing", "scheduler-latency", aftermath, always},
	{"cpu-hot-path", "scheduler-latency", aftermath, always},
	{"cpu-gc-pressure", "scheduler-latency", aftermath, always},
	{"goroutine-churn", "unbounded-concurrency", effect, samePlace},
	{"timer-storm", "unbounded-concurrency", effect, samePlace},
	{"goroutine-churn", "scheduler-latency", aftermath, always},
	{"timer-storm", "scheduler-latency", aftermath, always},
}

// sendsUnderLock reports whether what is done under the lock is the send itself:
// its queue is the receiver's fault.
func sendsUnderLock(send, held *ops.Finding) bool {
	return len(held.Where) > 0 && held.Where[0].Role == ops.RoleSend && samePlace(send, held)
}

// mostlyGC is the collector's share of the CPU, relative to a path's, from which
// on the path costs mostly what its garbage does: both count the help that
// whoever allocates gives the collector.
const mostlyGC = 0.75

// collectedBeside reports whether the path makes most of the garbage, and the
// collector is only a part of what it costs, as when reflection or a codec
// allocates beside its work.
func collectedBeside(path, collector *ops.Finding) bool {
	return makesGarbage(path, collector) && shareOf(collector, "gc_cpu_share") < mostlyGC*shareOf(path, "cpu_seconds")
}

// mostlyCollects reports whether most of what the path costs is the collection of
// the garbage that it makes.
func mostlyCollects(collector, path *ops.Finding) bool {
	return makesGarbage(path, collector) && shareOf(collector, "gc_cpu_share") >= mostlyGC*shareOf(path, "cpu_seconds")
}

// makesGarbage reports whether the line that most of the garbage comes from is
// part of the path: in its function, or in one of those that do the same kind of
// work. Those that merely call the path make garbage of their own.
func makesGarbage(path, collector *ops.Finding) bool {
	if len(collector.Where) == 0 || collector.Where[0].Role != ops.RoleAlloc || len(path.Where) == 0 {
		return false
	}
	parts := path.Where[:1]
	if path.Rule == "cpu-password-hashing" || shareOf(path, "functions") > 0 {
		parts = path.Where
	}
	garbage := cpu.Enclosing(collector.Where[0].Function)
	return slices.ContainsFunc(parts, func(p ops.Place) bool { return cpu.Enclosing(p.Function) == garbage })
}

// shareOf is the share that a finding proves by a metric; 0 = it does not.
func shareOf(f *ops.Finding, metric string) float64 {
	if i := slices.IndexFunc(f.Evidence, func(p ops.Proof) bool { return p.Metric == metric }); i >= 0 {
		return f.Evidence[i].Share
	}
	return 0
}

// belowNeed reports whether the limit is hardly more than what lives, of which the
// objects are a part and which does not grow: what is too much there, the limit has made
// too much. Where there is room, they are what fills it.
func belowNeed(thrash, _ *ops.Finding) bool {
	return thrash.Severity() != ops.Notice && shareOf(thrash, "live_heap_bytes") >= 0.85
}

// openBodies reports whether a pool is empty because of responses that nobody
// closed.
func openBodies(_, pool *ops.Finding) bool {
	return slices.ContainsFunc(pool.Evidence, func(p ops.Proof) bool { return p.Metric == "open_bodies" })
}

// oneForEach reports whether there are about as many of the objects that pile up as
// goroutines that leak, in the same package: each session that is not let go has one
// of both, wherever it was made.
func oneForEach(leak, heap *ops.Finding) bool {
	if len(leak.Where) == 0 || len(heap.Where) == 0 || profile.Package(leak.Where[0].Function) != profile.Package(heap.Where[0].Function) {
		return false
	}
	n, objects := valueOf(leak, "goroutines"), valueOf(heap, "inuse_objects")
	return n >= 10 && objects >= n/2 && objects <= 2*n
}

// valueOf is the figure that a finding proves by a metric; 0 = it does not.
func valueOf(f *ops.Finding, metric string) float64 {
	if i := slices.IndexFunc(f.Evidence, func(p ops.Proof) bool { return p.Metric == metric }); i >= 0 {
		return f.Evidence[i].Value
	}
	return 0
}

// hotAlone reports whether a path is a fault by itself, lock or no lock. What is
// merely the most of a quiet process is part of the lock's story.
func hotAlone(path, lock *ops.Finding) bool {
	return path.Severity() != ops.Notice && samePlace(path, lock)
}

func always(_, _ *ops.Finding) bool { return true }

// samePlace reports whether both findings name one function of the program.
func samePlace(a, b *ops.Finding) bool {
	for _, p := range a.Where {
		if p.Function != "" && slices.ContainsFunc(b.Where, func(q ops.Place) bool { return q.Function == p.Function }) {
			return true
		}
	}
	return false
}

// link finds out which findings are effects of others, and drops those that say
// the same in other words.
func link(d *ops.Diagnosis) {
	gone := map[int]bool{}
	for _, b := range bonds {
		for j := range d.Findings {
			e := &d.Findings[j]
			if e.Rule != b.effect || gone[j] || e.CausedBy != "" {
				continue
			}
			i := worst(d.Findings, gone, b.cause, func(c *ops.Finding) bool {
				return b.about(c, e) && !causes(d.Findings, e, c) && (b.bond != aftermath || c.Severity() != ops.Notice)
			})
			if i < 0 {
				continue
			}
			c := &d.Findings[i]
			if b.bond == twin {
				gone[j] = true
				absorb(d, c, e)
				continue
			}
			e.CausedBy = c.ID()
			if b.bond == effect {
				c.Score = max(c.Score, e.Score)
			}
			e.Score = min(e.Score, c.Score)
		}
	}
	var left []ops.Finding
	for i, f := range d.Findings {
		if !gone[i] {
			left = append(left, f)
		}
	}
	d.Findings = left
	standing(d)
}

// standing keeps the check for leaks from calling those goroutines fine that hold what
// another finding says should have gone: their number does not grow any more.
func standing(d *ops.Diagnosis) {
	for i := range d.Findings {
		f := &d.Findings[i]
		n := valueOf(f, "goroutines")
		if f.Rule != "retained-objects" || n == 0 {
			continue
		}
		for j := range d.Checks {
			if k := &d.Checks[j]; k.Rule == "goroutine-leak" && k.Verdict == ops.VerdictOK {
				k.Reason = rule.Say("the number of goroutines does not grow; that %s of them stand, about one for each object that stays, is told as part of %s",
					"goroutine 的數量沒有增加；其中 %s 個停著不動，大約每個殘留物件各有一個，已併入 %s 說明", rule.Count(int64(n)), f.ID())
			}
		}
	}
}

// worst returns the finding of a rule with the highest score that is about the
// same; −1 = none.
func worst(all []ops.Finding, gone map[int]bool, id ops.RuleID, about func(*ops.Finding) bool) int {
	best := -1
	for i := range all {
		if all[i].Rule == id && !gone[i] && (best < 0 || all[i].Score > all[best].Score) && about(&all[i]) {
			best = i
		}
	}
	return best
}

// causes reports whether a is, by way of others, the cause of b: it cannot be its
// effect as well.
func causes(all []ops.Finding, a, b *ops.Finding) bool {
	for seen := 0; b.CausedBy != "" && seen < len(all); seen++ {
		if b.CausedBy == a.ID() {
			return true
		}
		i := slices.IndexFunc(all, func(f ops.Finding) bool { return f.ID() == b.CausedBy })
		if i < 0 {
			return false
		}
		b = &all[i]
	}
	return false
}

// absorb keeps what a dropped finding proves, its places, and that it was found.
func absorb(d *ops.Diagnosis, c, e *ops.Finding) {
	for _, p := range e.Evidence {
		if !slices.ContainsFunc(c.Evidence, func(q ops.Proof) bool { return q.Artifact == p.Artifact && q.Metric == p.Metric }) {
			c.Evidence = append(c.Evidence, p)
		}
	}
	for _, p := range e.Where {
		if !slices.Contains(c.Where, p) {
			c.Where = append(c.Where, p)
		}
	}
	c.Score = max(c.Score, e.Score)
	for i := range d.Findings {
		if d.Findings[i].CausedBy == e.ID() {
			d.Findings[i].CausedBy = c.ID()
		}
	}
	for i := range d.Checks {
		k := &d.Checks[i]
		if k.Rule == e.Rule && !slices.ContainsFunc(d.Findings, func(f ops.Finding) bool { return f.Rule == e.Rule && f.ID() != e.ID() }) {
			k.Reason = rule.Say("its signs are there, and are told as part of %s", "徵兆存在，已併入 %s 說明", c.ID())
		}
	}
}
