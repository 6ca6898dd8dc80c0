package goroutines

import (
	"strings"

	"github.com/opscenter/opscenter/internal/profile"
)

// State is what a goroutine does, in words that do not change with Go's.
type State string

// The states.
const (
	// Running is on a processor, or, where the format cannot tell, ready for one.
	Running  State = "running"
	Runnable State = "runnable"
	Syscall  State = "syscall"

	ChanSend    State = "chan send"
	ChanReceive State = "chan receive"
	// Chan is a channel operation that may be either.
	Chan   State = "chan"
	Select State = "select"

	Mutex        State = "mutex"
	RWMutexRead  State = "rwmutex read"
	RWMutexWrite State = "rwmutex write"
	Once         State = "once"
	WaitGroup    State = "waitgroup"
	Cond         State = "cond"
	Semaphore    State = "semaphore" // a wait that Go itself calls only that

	Sleep      State = "sleep"
	NetRead    State = "net read"
	NetWrite   State = "net write"
	NetAccept  State = "net accept"
	NetConnect State = "net connect"
	FileIO     State = "file" // a pipe, a terminal or another file that can be polled
	IO         State = "io"   // polled, and not known what

	Coroutine State = "coroutine"
	GC        State = "gc"      // helping the collector, or waiting for it
	Runtime   State = "runtime" // the runtime's own goroutines at rest
	// Waiting is for something that is not known.
	Waiting State = "waiting"
	// Unknown is where the format does not even tell whether it waits.
	Unknown State = "unknown"
)

// signatures tell the state by functions near the leaf, over all versions of Go
// from 1.18 on. A stack is read from its leaf as long as it is in the plumbing,
// and what is found last counts: a pollWait is an IO, below internal/poll's Read
// and net's Read it is a NetRead.
//
// What changed: sync.(*Mutex) became a shell around internal/sync.(*Mutex) with
// 1.24 (lockSlow and the semaphore moved along); WaitGroup has a semaphore
// function of its own since 1.25; the finalizer goroutine was renamed with 1.25
// and cleanups have their own since.
var signatures = map[string]State{
	"runtime.gopark": Waiting, "runtime.goparkunlock": Waiting,

	"runtime.chansend": ChanSend, "runtime.chansend1": ChanSend,
	"runtime.chanrecv": ChanReceive, "runtime.chanrecv1": ChanReceive, "runtime.chanrecv2": ChanReceive,
	"runtime.selectgo": Select, "runtime.block": Select,

	"runtime.semacquire1": Semaphore, "runtime.semacquire": Semaphore,
	"sync.runtime_Semacquire": Semaphore, "sync.runtime_SemacquireMutex": Mutex, "internal/sync.runtime_SemacquireMutex": Mutex,
	"sync.(*Mutex).lockSlow": Mutex, "sync.(*Mutex).Lock": Mutex, "internal/sync.(*Mutex).lockSlow": Mutex, "internal/sync.(*Mutex).Lock": Mutex,
	"sync.runtime_SemacquireRWMutexR": RWMutexRead, "sync.(*RWMutex).RLock": RWMutexRead,
	"sync.runtime_SemacquireRWMutex": RWMutexWrite, "sync.(*RWMutex).Lock": RWMutexWrite,
	"sync.runtime_SemacquireWaitGroup": WaitGroup, "sync.(*WaitGroup).Wait": WaitGroup,
	"sync.runtime_notifyListWait": Cond, "sync.(*Cond).Wait": Cond,
	"sync.(*Once).doSlow": Once, "sync.(*Once).Do": Once,

	"time.Sleep": Sleep,

	"internal/poll.runtime_pollWait": IO, "runtime.netpollblock": IO,
	"internal/poll.(*FD).Accept": NetAccept, "net.(*netFD).accept": NetAccept,
	"net.(*netFD).connect": NetConnect,
	"net.(*netFD).Read":    NetRead, "net.(*netFD).readFrom": NetRead, "net.(*netFD).readFromInet4": NetRead, "net.(*netFD).readFromInet6": NetRead,
	"net.(*netFD).readMsg": NetRead, "net.(*netFD).readMsgInet4": NetRead, "net.(*netFD).readMsgInet6": NetRead, "net.(*rawConn).Read": NetRead,
	"net.(*netFD).Write": NetWrite, "net.(*netFD).writeTo": NetWrite, "net.(*netFD).writeToInet4": NetWrite, "net.(*netFD).writeToInet6": NetWrite,
	"net.(*netFD).writeMsg": NetWrite, "net.(*netFD).writeMsgInet4": NetWrite, "net.(*netFD).writeMsgInet6": NetWrite, "net.(*netFD).writeBuffers": NetWrite,
	"net.(*conn).Read": NetRead, "net.(*conn).Write": NetWrite, "net.(*rawConn).Write": NetWrite,
	"net.(*TCPConn).writeTo": NetWrite, "internal/poll.SendFile": NetWrite, "internal/poll.Splice": NetRead,
	"os.(*File).Read": FileIO, "os.(*File).read": FileIO, "os.(*File).Write": FileIO, "os.(*File).write": FileIO,

	"runtime.coroswitch": Coroutine, "runtime.coroswitch_m": Coroutine,

	"runtime.gcAssistAlloc": GC, "runtime.gcAssistAlloc1": GC, "runtime.gcParkAssist": GC, "runtime.GC": GC, "runtime.gcStart": GC,
	"runtime.gcBgMarkWorker": GC, "runtime.gcDrainMarkWorkerIdle": GC, "runtime.gcMarkDone": GC, "runtime.gcWaitOnMark": GC,
	"runtime.stopTheWorld": GC, "runtime.stopTheWorldGC": GC, "runtime.semrelease1": Waiting,
	"runtime.bgsweep": Runtime, "runtime.bgscavenge": Runtime, "runtime.(*scavengerState).park": Runtime, "runtime.forcegchelper": Runtime,
	"runtime.runfinq": Runtime, "runtime.runFinalizers": Runtime, "runtime.runCleanups": Runtime, "runtime.(*cleanupQueue).dequeue": Runtime,
	"runtime.gopreempt_m": Running, "runtime.goschedImpl": Runnable, "runtime.Gosched": Runnable,

	"syscall.Syscall": Syscall, "syscall.Syscall6": Syscall, "syscall.RawSyscall": Syscall, "syscall.RawSyscall6": Syscall,
	"syscall.syscall": Syscall, "syscall.syscall6": Syscall, "syscall.rawSyscall": Syscall, "syscall.syscallPtr": Syscall,
	"syscall.SyscallN": Syscall, "syscall.Syscall9": Syscall, "syscall.Syscall12": Syscall,
	"internal/runtime/syscall.Syscall6": Syscall, "runtime/internal/syscall.Syscall6": Syscall, "internal/runtime/syscall/linux.Syscall6": Syscall,
	"golang.org/x/sys/unix.Syscall": Syscall, "golang.org/x/sys/unix.Syscall6": Syscall,
	"runtime.cgocall": Syscall, "runtime.asmcgocall": Syscall, "runtime.notetsleepg": Syscall,
}

// plumbing are the packages that a wait goes through on its way to the caller
// who wanted it.
var plumbing = map[string]bool{
	"runtime": true, "sync": true, "internal/sync": true, "internal/poll": true, "internal/runtime/syscall": true, "internal/runtime/syscall/linux": true,
	"runtime/internal/syscall": true, "time": true, "net": true, "os": true, "syscall": true, "golang.org/x/sys/unix": true, "internal/runtime/maps": true,
}

// stateOf derives the state from a stack, from the leaf.
func stateOf(stack []Frame) State {
	if len(stack) == 0 {
		return Unknown
	}
	state, found := Running, false
	for _, f := range stack {
		if s, ok := signatures[f.Function]; ok {
			// A syscall below os or net is what it is: the thread is in it.
			if !found || state != Syscall && state != Running {
				state, found = s, true
			}
		}
		if !plumbing[profile.Package(f.Function)] {
			break
		}
	}
	return state
}

// reasons are the words of a dump in its first line, over all versions of Go.
var reasons = map[string]State{
	"running": Running, "runnable": Runnable, "preempted": Runnable, "copystack": Runnable, "scan": Runnable, "debug call": Runnable,
	"syscall":      Syscall,
	"chan receive": ChanReceive, "chan send": ChanSend, "chan receive (nil chan)": ChanReceive, "chan send (nil chan)": ChanSend,
	"chan receive (synctest)": ChanReceive, "chan send (synctest)": ChanSend,
	"select": Select, "select (no cases)": Select, "select (synctest)": Select,
	"sync.Mutex.Lock": Mutex, "sync.RWMutex.RLock": RWMutexRead, "sync.RWMutex.Lock": RWMutexWrite,
	"sync.WaitGroup.Wait": WaitGroup, "sync.WaitGroup.Wait (synctest)": WaitGroup, "sync.Cond.Wait": Cond,
	"semacquire": Semaphore, "sleep": Sleep, "IO wait": IO, "coroutine": Coroutine,
	"GC assist wait": GC, "GC assist marking": GC, "GC worker (active)": GC, "GC worker (idle)": GC, "GC worker init": GC, "GC weak to strong wait": GC,
	"garbage collection": GC, "garbage collection scan": GC, "wait for GC cycle": GC, "wait until GC ends": GC, "stopping the world": GC,
	"mark wait (idle)": GC, "concurrent sweep": GC, "waiting for GC": GC,
	"GC sweep wait": Runtime, "GC scavenge wait": Runtime, "force gc (idle)": Runtime, "finalizer wait": Runtime, "cleanup wait": Runtime,
	"timer goroutine (idle)": Runtime, "trace reader (blocked)": Runtime, "trace goroutine status": Runtime, "flushing proc caches": Runtime, "dumping heap": Runtime,
	"panicwait": Waiting, "waiting": Waiting, "synctest.Run": Waiting, "synctest.Wait": Waiting, "trace proc status": Waiting, "page trace flush": Waiting,
}

// stateByReason is the state that a dump states, made more exact by the stack.
func stateByReason(reason string, stack []Frame) (state State, forever bool) {
	forever = strings.HasSuffix(reason, "(nil chan)") || reason == "select (no cases)"
	state, ok := reasons[reason]
	if !ok {
		state = Waiting
	}
	switch state {
	case IO, Semaphore, Mutex, Waiting, Syscall:
		// A dump leaves out the runtime's frames but not those that matter here.
		if s := stateOf(stack); s != Running && s != Waiting && s != Unknown && s != Syscall {
			return s, forever
		}
	}
	return state, forever
}
