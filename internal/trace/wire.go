package trace

// GoID names a goroutine, as the runtime does; NoGoroutine where there is none.
type GoID int64

// ProcID names a P, one of GOMAXPROCS; NoProc where there is none.
type ProcID int32

// ThreadID names a thread by what the operating system calls it; NoThread where
// there is none.
type ThreadID int64

// What an event has where it belongs to no goroutine, P or thread.
const (
	NoGoroutine GoID     = -1
	NoProc      ProcID   = -1
	NoThread    ThreadID = -1
)

// EventKind is what happened. The numbers are those of the format, which only
// ever adds to them.
type EventKind uint8

// The events of the format, with the arguments behind their time. A seq counts
// the changes of one goroutine, P or GC cycle within a generation: it orders what
// clocks of different threads cannot.
const (
	evEventBatch EventKind = iota + 1
	evStacks
	evStack
	evStrings
	evString
	evCPUSamples
	EvCPUSample // thread, P, goroutine, stack; brought into the order of the others
	evFrequency

	EvProcsChange // GOMAXPROCS, stack
	EvProcStart   // P, seq
	EvProcStop
	EvProcSteal  // P, seq, thread that had it
	EvProcStatus // P, status: at its first event of a generation

	EvGoCreate        // goroutine, stack it starts with, stack
	EvGoCreateSyscall // goroutine: a thread of C calls Go
	EvGoStart         // goroutine, seq
	EvGoDestroy
	EvGoDestroySyscall
	EvGoStop              // reason, stack
	EvGoBlock             // reason, stack
	EvGoUnblock           // goroutine, seq, stack
	EvGoSyscallBegin      // seq of the P, stack
	EvGoSyscallEnd        //
	EvGoSyscallEndBlocked // its P was taken meanwhile
	EvGoStatus            // goroutine, thread, status: at its first event of a generation

	EvSTWBegin // kind, stack
	EvSTWEnd

	EvGCActive           // seq: at the beginning of a generation
	EvGCBegin            // seq, stack
	EvGCEnd              // seq
	EvGCSweepActive      // P
	EvGCSweepBegin       // stack
	EvGCSweepEnd         // bytes swept, bytes reclaimed
	EvGCMarkAssistActive // goroutine
	EvGCMarkAssistBegin  // stack
	EvGCMarkAssistEnd
	EvHeapAlloc // bytes
	EvHeapGoal  // bytes

	EvGoLabel         // label: what kind of GC worker this is
	EvUserTaskBegin   // task, parent, name, stack
	EvUserTaskEnd     // task, stack
	EvUserRegionBegin // task, name, stack
	EvUserRegionEnd   // task, name, stack
	EvUserLog         // task, category, message, stack

	// Go 1.23.
	EvGoSwitch        // goroutine, seq: a coroutine runs instead of this one
	EvGoSwitchDestroy // goroutine, seq
	EvGoCreateBlocked // goroutine, stack it starts with, stack
	EvGoStatusStack   // goroutine, thread, status, stack
	evExperimentalBatch

	// Go 1.25 and 1.26.
	evSync
	evClockSnapshot
	evEndOfGeneration
)

// The events of the experiment that traces allocations: decoded, never used.
const (
	evExperimentFirst EventKind = 128
	evExperimentLast  EventKind = 136
)

// The goroutine's status in the format.
const (
	goBad uint8 = iota
	goRunnable
	goRunning
	goSyscall
	goWaiting
	goStatuses
)

// The P's status in the format. Abandoned is that of a P in a syscall of a thread
// that this generation does not know.
const (
	procBad uint8 = iota
	procRunning
	procIdle
	procSyscall
	procAbandoned
	procStatuses
)

const (
	maxFrames = 128
	maxString = 1 << 10
)

// shape is how an event is written: how many numbers follow its time, and at
// which of them (from 1 on; 0 = none) there are references to stacks and strings.
type shape struct {
	timed        bool
	args         uint8
	stack, start uint8
	str, str2    uint8
}

// shapes is never written to.
var shapes = [256]shape{
	EvProcsChange:         {true, 2, 2, 0, 0, 0},
	EvProcStart:           {true, 2, 0, 0, 0, 0},
	EvProcStop:            {true, 0, 0, 0, 0, 0},
	EvProcSteal:           {true, 3, 0, 0, 0, 0},
	EvProcStatus:          {true, 2, 0, 0, 0, 0},
	EvGoCreate:            {true, 3, 3, 2, 0, 0},
	EvGoCreateSyscall:     {true, 1, 0, 0, 0, 0},
	EvGoStart:             {true, 2, 0, 0, 0, 0},
	EvGoDestroy:           {true, 0, 0, 0, 0, 0},
	EvGoDestroySyscall:    {true, 0, 0, 0, 0, 0},
	EvGoStop:              {true, 2, 2, 0, 1, 0},
	EvGoBlock:             {true, 2, 2, 0, 1, 0},
	EvGoUnblock:           {true, 3, 3, 0, 0, 0},
	EvGoSyscallBegin:      {true, 2, 2, 0, 0, 0},
	EvGoSyscallEnd:        {true, 0, 0, 0, 0, 0},
	EvGoSyscallEndBlocked: {true, 0, 0, 0, 0, 0},
	EvGoStatus:            {true, 3, 0, 0, 0, 0},
	EvSTWBegin:            {true, 2, 2, 0, 1, 0},
	EvSTWEnd:              {true, 0, 0, 0, 0, 0},
	EvGCActive:            {true, 1, 0, 0, 0, 0},
	EvGCBegin:             {true, 2, 2, 0, 0, 0},
	EvGCEnd:               {true, 1, 0, 0, 0, 0},
	EvGCSweepActive:       {true, 1, 0, 0, 0, 0},
	EvGCSweepBegin:        {true, 1, 1, 0, 0, 0},
	EvGCSweepEnd:          {true, 2, 0, 0, 0, 0},
	EvGCMarkAssistActive:  {true, 1, 0, 0, 0, 0},
	EvGCMarkAssistBegin:   {true, 1, 1, 0, 0, 0},
	EvGCMarkAssistEnd:     {true, 0, 0, 0, 0, 0},
	EvHeapAlloc:           {true, 1, 0, 0, 0, 0},
	EvHeapGoal:            {true, 1, 0, 0, 0, 0},
	EvGoLabel:             {true, 1, 0, 0, 1, 0},
	EvUserTaskBegin:       {true, 4, 4, 0, 3, 0},
	EvUserTaskEnd:         {true, 2, 2, 0, 0, 0},
	EvUserRegionBegin:     {true, 3, 3, 0, 2, 0},
	EvUserRegionEnd:       {true, 3, 3, 0, 2, 0},
	EvUserLog:             {true, 4, 4, 0, 2, 3},
	EvGoSwitch:            {true, 2, 0, 0, 0, 0},
	EvGoSwitchDestroy:     {true, 2, 0, 0, 0, 0},
	EvGoCreateBlocked:     {true, 3, 3, 2, 0, 0},
	EvGoStatusStack:       {true, 4, 4, 0, 0, 0},
	evExperimentFirst:     {true, 3, 0, 0, 0, 0},
	evExperimentFirst + 1: {true, 3, 0, 0, 0, 0},
	evExperimentFirst + 2: {true, 1, 0, 0, 0, 0},
	evExperimentFirst + 3: {true, 2, 0, 0, 0, 0},
	evExperimentFirst + 4: {true, 2, 0, 0, 0, 0},
	evExperimentFirst + 5: {true, 1, 0, 0, 0, 0},
	evExperimentFirst + 6: {true, 2, 0, 0, 0, 0},
	evExperimentFirst + 7: {true, 2, 0, 0, 0, 0},
	evExperimentLast:      {true, 1, 0, 0, 0, 0},
}
