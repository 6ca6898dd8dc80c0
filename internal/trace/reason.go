package trace

import (
	"iter"
	"strings"
)

// Reason is why a goroutine waits or yields, in the runtime's words.
type Reason uint8

// The reasons of the runtime, of Go 1.22 and later.
const (
	ReasonUnknown     Reason = iota // before the trace, and no stack tells
	ReasonUnspecified               // the runtime does not say
	ReasonForever
	ReasonNetwork
	ReasonSelect
	ReasonCond
	ReasonSync // Mutex, RWMutex, WaitGroup, Once and semaphores of the runtime: the stack tells which
	ReasonChanSend
	ReasonChanReceive
	ReasonGCAssist
	ReasonGCSweeper
	ReasonSystem
	ReasonPreempted
	ReasonDebugCall
	ReasonGCEnds
	ReasonSleep
	ReasonGCWeakToStrong
	ReasonSynctest
	ReasonCoroutine
	ReasonGosched
	ReasonOther // one that this program does not know
	NumReasons
)

var reasonNames = [NumReasons]string{
	"unknown", "unspecified", "forever", "network", "select", "sync.(*Cond).Wait", "sync", "chan send", "chan receive",
	"GC mark assist wait for work", "GC background sweeper wait", "system goroutine wait", "preempted", "wait for debug call",
	"wait until GC ends", "sleep", "GC weak to strong wait", "synctest", "coroutine switch", "runtime.Gosched", "other",
}

func (r Reason) String() string {
	if r < NumReasons {
		return reasonNames[r]
	}
	return reasonNames[ReasonOther]
}

// reasonOf reads the runtime's word.
func reasonOf(text []byte) Reason {
	if len(text) == 0 {
		return ReasonCoroutine
	}
	for i := ReasonUnspecified; i < ReasonOther; i++ {
		if string(text) == reasonNames[i] {
			return i
		}
	}
	return ReasonOther
}

// State is what a goroutine does, as a timeline shows it.
type State uint8

// The states. Waits are told apart by what they wait for; those that mean nothing
// (an idle connection, the runtime's own goroutines) are StateIdle.
const (
	StateRunning State = iota
	StateAssist        // running, but for the GC
	StateRunnable
	StateSyscall
	StateNetwork
	StateSync // locks, conditions, wait groups
	StateChan // channels and select
	StateGC   // waits for the GC
	StateSleep
	StateIdle
	StateOther // unknown ones too
	NumStates
)

var stateNames = [NumStates]string{"running", "GC assist", "runnable", "syscall", "network", "sync", "channel", "GC wait", "sleep", "idle", "other"}

func (s State) String() string {
	if s < NumStates {
		return stateNames[s]
	}
	return stateNames[StateOther]
}

// waitStates is never written to.
var waitStates = [NumReasons]State{
	StateOther, StateOther, StateIdle, StateNetwork, StateChan, StateSync, StateSync, StateChan, StateChan,
	StateGC, StateIdle, StateIdle, StateOther, StateOther,
	StateGC, StateSleep, StateGC, StateOther, StateOther, StateOther, StateOther,
}

// LockKind is what a stack does with a lock.
type LockKind uint8

// The kinds of locks of package sync.
const (
	LockNone LockKind = iota
	LockMutex
	LockWrite     // (*RWMutex).Lock
	LockRead      // (*RWMutex).RLock
	LockWaitGroup // no lock: nobody holds it
	LockRuntime   // semaphores of the runtime's own, such as those of the GC
)

var lockNames = [...]string{"", "sync.Mutex", "sync.RWMutex (write)", "sync.RWMutex (read)", "sync.WaitGroup", "runtime"}

func (k LockKind) String() string { return lockNames[min(int(k), len(lockNames)-1)] }

// lock reports whether somebody can hold it.
func (k LockKind) lock() bool { return k == LockMutex || k == LockWrite || k == LockRead }

// traits is what the functions of a stack tell.
type traits struct {
	reason Reason   // the wait that such a stack is in; ReasonUnknown if none
	idle   bool     // waiting like this is having nothing to do
	lock   LockKind // of a stack that waits
	unlock LockKind // of a stack that wakes
	user   uint16   // the index of the first frame that is not of the runtime or sync
}

// traitsOf looks at the functions of a stack, innermost first.
func traitsOf(funcs iter.Seq[string]) (t traits) {
	i, inner := 0, true
	outer := ""
	for fn := range funcs {
		if inner && i < 8 && t.reason == ReasonUnknown {
			t.reason = reasonOfFunc(fn)
		}
		if inner {
			inner = plumbing(fn)
			if inner {
				t.user++
				lockOf(fn, i, &t)
			}
		}
		if idleFunc(fn) || fn == "net/http.(*conn).serve" && (outer == "bufio.(*Reader).Peek" || outer == "net/http.(*conn).readRequest") {
			t.idle = true
		}
		outer = fn
		i++
	}
	if strings.HasPrefix(outer, "runtime.") && outer != "runtime.main" && outer != "runtime.goexit" {
		// A goroutine of the runtime's own.
		t.idle = true
		if t.reason == ReasonUnknown {
			t.reason = ReasonSystem
		}
	}
	return t
}

// plumbing reports whether a function is between the user's code and the wait.
func plumbing(fn string) bool {
	for _, p := range [...]string{"sync.", "internal/sync.", "runtime.", "internal/poll.", "internal/runtime/"} {
		if strings.HasPrefix(fn, p) {
			return fn != "runtime.main" && fn != "runtime.goexit"
		}
	}
	return false
}

// reasonOfFunc is what waiting in a function of the runtime is called.
func reasonOfFunc(fn string) Reason {
	switch {
	case fn == "runtime.selectgo":
		return ReasonSelect
	case fn == "runtime.block":
		return ReasonForever
	case strings.HasPrefix(fn, "runtime.chanrecv"):
		return ReasonChanReceive
	case strings.HasPrefix(fn, "runtime.chansend"):
		return ReasonChanSend
	case fn == "internal/poll.runtime_pollWait", fn == "internal/poll.(*pollDesc).wait", fn == "runtime.netpollblock":
		return ReasonNetwork
	case fn == "time.Sleep", fn == "runtime.timeSleep":
		return ReasonSleep
	case fn == "sync.runtime_notifyListWait", fn == "sync.(*Cond).Wait":
		return ReasonCond
	case strings.Contains(fn, "untime_Semacquire"), strings.Contains(fn, "runtime.semacquire"),
		fn == "sync.(*Mutex).Lock", fn == "sync.(*RWMutex).Lock", fn == "sync.(*RWMutex).RLock", fn == "sync.(*WaitGroup).Wait":
		return ReasonSync
	case fn == "runtime.gcAssistAlloc":
		return ReasonGCAssist
	case fn == "runtime.bgsweep":
		return ReasonGCSweeper
	case fn == "runtime.gcBgMarkWorker", fn == "runtime.bgscavenge", fn == "runtime.forcegchelper", fn == "runtime.runFinalizers", fn == "runtime.runfinq", fn == "runtime.runCleanups":
		return ReasonSystem
	}
	return ReasonUnknown
}

func lockOf(fn string, i int, t *traits) {
	switch fn {
	case "sync.(*Mutex).Lock":
		// Within RWMutex.Lock this is the outer function's business.
		t.lock = LockMutex
	case "sync.(*RWMutex).Lock":
		t.lock = LockWrite
	case "sync.(*RWMutex).RLock":
		t.lock = LockRead
	case "sync.(*WaitGroup).Wait":
		t.lock = LockWaitGroup
	case "sync.(*Mutex).Unlock":
		t.unlock = LockMutex
	case "sync.(*RWMutex).Unlock":
		t.unlock = LockWrite
	case "sync.(*RWMutex).RUnlock":
		t.unlock = LockRead
	case "sync.(*WaitGroup).Done", "sync.(*WaitGroup).Add":
		t.unlock = LockWaitGroup
	default:
		if i == 0 && strings.HasPrefix(fn, "runtime.") {
			t.lock = LockRuntime
		}
	}
}

// idleFunc knows the waits of net/http and gRPC that mean that nobody asks anything: the
// watcher of a request's connection, a connection kept open between requests and
// the listener.
func idleFunc(fn string) bool {
	switch fn {
	case "net/http.(*connReader).backgroundRead", "net/http.(*connReader).abortPendingRead",
		"net/http.(*Server).Serve", "net/http.(*persistConn).readLoop", "net/http.(*persistConn).writeLoop",
		"net/http.(*http2serverConn).serve", "net/http.(*http2serverConn).readFrames", "net/http.(*http2clientConnReadLoop).run",
		"google.golang.org/grpc/internal/transport.(*http2Server).HandleStreams", "google.golang.org/grpc/internal/transport.(*http2Client).reader",
		"google.golang.org/grpc/internal/transport.(*http2Server).keepalive", "google.golang.org/grpc/internal/transport.(*http2Client).keepalive",
		"google.golang.org/grpc/internal/transport.(*loopyWriter).run":
		return true
	}
	return false
}
