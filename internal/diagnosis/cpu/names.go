package cpu

import "github.com/opscenter/opscenter/internal/evidence"

// part is what the runtime does in a sample, where it is not simply called by
// the program.
type part uint8

const (
	partNone part = iota
	partGC        // marks, on a goroutine of its own
	partGCIdle
	partAssist // marks, in the goroutine that allocates
	partSweep  // gives memory back to the allocator, wherever that happens
	partAlloc
	partTimer
	partSpawn // starts and ends goroutines
	partSched // looks for work, sleeps and wakes threads
)

// parts are how the runtime's functions are called from Go 1.22 to 1.27, tried
// in their order: the first that a stack has names the sample.
var parts = []struct {
	part  part
	names []string
}{
	{partGCIdle, []string{"runtime.gcDrainMarkWorkerIdle"}},
	// deductAssistCredit came with 1.23; markAssist is gcAssistAlloc's range.
	{partAssist, []string{"runtime.gcAssistAlloc", "runtime.deductAssistCredit", "runtime.gcParkAssist"}},
	{partSweep, []string{"runtime.bgsweep", "runtime.sweepone", "runtime.(*sweepLocked).sweep", "runtime.(*mheap).reclaim", "runtime.deductSweepCredit", "runtime.bgscavenge", "runtime.(*scavengerState)"}},
	{partGC, []string{
		"runtime.gcBgMarkWorker", "runtime.gcDrain", "runtime.gcStart", "runtime.gcMarkDone", "runtime.gcMarkTermination", "runtime.gcMark", "runtime.gcSweep",
		"runtime.markroot", "runtime.scanobject", "runtime.scanObject", "runtime.scanSpan", "runtime.scanblock", "runtime.scanstack", "runtime.wbBufFlush",
		"runtime.gcFlushBgCredit", "runtime.gcController", "runtime.(*gcControllerState)", "runtime.(*gcWork)", "internal/runtime/gc/scan.",
	}},
	{partTimer, []string{
		"runtime.(*timers).", "runtime.(*timer).", "runtime.runtimer", "runtime.runOneTimer", "runtime.checkTimers", "runtime.siftdownTimer", "runtime.siftupTimer",
		"runtime.resettimer", "runtime.modtimer", "runtime.addtimer", "runtime.deltimer", "runtime.goroutineReady", "runtime.timeSleep", "runtime.resetForSleep", "time.sendTime", "time.goFunc", "time.Sleep",
		"runtime.newTimer", "runtime.stopTimer", "runtime.resetTimer",
	}},
	{partSpawn, []string{"runtime.newproc", "runtime.malg", "runtime.goexit0", "runtime.gdestroy", "runtime.gfput", "runtime.gfget", "runtime.gfpurge"}},
	{partSched, []string{
		"runtime.schedule", "runtime.findRunnable", "runtime.findrunnable", "runtime.stealWork", "runtime.runqgrab", "runtime.park_m", "runtime.gosched_m",
		"runtime.goschedImpl", "runtime.goready", "runtime.ready", "runtime.wakep", "runtime.startm", "runtime.stopm", "runtime.notesleep", "runtime.notewakeup",
		"runtime.notetsleep", "runtime.futex", "runtime.netpoll", "runtime.usleep", "runtime.osyield", "runtime.sysmon", "runtime.mstart", "runtime.mcall", "runtime.resetspinning",
		"runtime.execute", "runtime.handoffp", "runtime.retake", "runtime.exitsyscall", "runtime.entersyscall",
	}},
	{partAlloc, []string{"runtime.mallocgc", "runtime.newobject", "runtime.makeslice", "runtime.growslice", "runtime.makemap", "runtime.(*mcache).", "runtime.(*mheap).", "runtime.(*mcentral)."}},
}

// partOf says what the runtime does in a sample; the frames of the program and
// its libraries end the search, for what called them is not what costs.
func partOf(s evidence.Stack) part {
	leaf := s
	if at := s.Index(func(f *evidence.Frame) bool {
		return f.Origin == evidence.OwnCode || f.Origin == evidence.LibraryCode
	}); at >= 0 {
		leaf = s[:at]
	}
	for _, p := range parts {
		if leaf.Has(p.names...) {
			return p.part
		}
	}
	return partNone
}

// byPart sums the CPU time by what the runtime does in it.
func byPart(p *evidence.Profile, typ int) (sums [partSched + 1]int64) {
	if p == nil || typ < 0 {
		return sums
	}
	for i := range p.Rows {
		sums[partOf(p.Rows[i].Stack)] += p.Rows[i].Values[typ]
	}
	return sums
}
