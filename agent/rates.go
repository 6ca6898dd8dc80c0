package agent

import (
	"errors"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

// rates lends the block and mutex profile rates to capture windows. While any
// window holds a lease, the finest rate that one asked for is set (or the
// program's own, where that is finer still); the last one to end puts back what
// was there before the first.
//
// A control may put a rate in the place of the program's own: leases then go on
// top of that one, and what the last of them puts back is the control's. When a
// control ends during a window its rate stays until the window's end, so that
// one profile is of one rate.
//
// A rate that the program itself changes in the meantime stays as the program
// wants it.
type rates struct {
	mu     sync.Mutex
	leases map[*rateLease]struct{}
	find   sync.Once
	block  blockRate // how to read the block rate; zero = cannot

	// What was there before the first lease, and what is set now.
	prevBlock uint64 // in ticks, as the runtime keeps it; where it can be read
	setBlock  uint64 // in ticks
	blockOurs bool   // the block rate was changed and has to be put back
	prevMutex int
	setMutex  int
	mutexOurs bool

	ctlBlock, ctlMutex controlRate
}

// controlRate is a rate that a control has set.
type controlRate struct {
	held   bool
	rate   int  // 0 = off
	ending bool // with the last lease
}

// rateLease is one window's hold on the rates.
type rateLease struct {
	of           *rates
	block, mutex int // 0 = not wanted
	watchdog     *time.Timer
	// blockSet is false when the block rate could not be known, so it was left
	// alone.
	blockSet bool
	// blockNanos and mutexFraction are what is in force; for people.
	blockNanos, mutexFraction int
}

// acquire sets rates at least as fine as asked; 0 = leave that one alone. The
// lease ends with release, or when the watchdog time is over, whatever hangs.
func (r *rates) acquire(block, mutex int, watchdog time.Duration) *rateLease {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &rateLease{of: r, block: block, mutex: mutex}
	if r.leases == nil {
		r.leases = map[*rateLease]struct{}{}
	}
	if block > 0 && !r.blockOurs {
		r.find.Do(func() { r.block = findBlockRate() })
		r.takeBlock()
	}
	if mutex > 0 && !r.mutexOurs {
		r.takeMutex()
	}
	r.leases[l] = struct{}{}
	r.apply()
	l.blockSet = block > 0 && r.blockOurs
	l.watchdog = time.AfterFunc(watchdog, l.release)
	l.blockNanos, l.mutexFraction = block, r.setMutex
	if r.ctlBlock.held && block > 0 {
		l.blockNanos = finer(block, r.ctlBlock.rate)
	}
	return l
}

func (r *rates) takeMutex() {
	r.prevMutex = runtime.SetMutexProfileFraction(-1)
	r.setMutex = r.prevMutex
	r.mutexOurs = true
}

// takeBlock finds out what the block rate is. Where it can be neither read nor
// concluded, it must not be set, for it could not be put back.
func (r *rates) takeBlock() {
	switch {
	case r.block.known():
		r.prevBlock = r.block.ticks()
		r.setBlock = r.prevBlock
		r.blockOurs = true
	case pprof.Lookup("block").Count() == 0:
		// Nothing was ever recorded: the program does not profile blocking.
		r.prevBlock, r.setBlock = 0, 0
		r.blockOurs = true
	}
}

// release gives the lease back. It may be called more than once, and on nil.
func (l *rateLease) release() {
	if l == nil {
		return
	}
	r := l.of
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, held := r.leases[l]; !held {
		return
	}
	l.watchdog.Stop()
	delete(r.leases, l)
	if len(r.leases) == 0 {
		for _, c := range []*controlRate{&r.ctlBlock, &r.ctlMutex} {
			if c.ending {
				*c = controlRate{}
			}
		}
	}
	r.apply()
}

// apply sets what the present leases ask for; the caller holds mu.
func (r *rates) apply() {
	block, mutex := 0, 0
	for l := range r.leases {
		block, mutex = finer(block, l.block), finer(mutex, l.mutex)
	}
	if r.blockOurs && (!r.block.known() || r.block.ticks() == r.setBlock) {
		switch {
		case r.ctlBlock.held:
			rate := r.ctlBlock.rate
			if block > 0 {
				rate = finer(block, rate)
			}
			runtime.SetBlockProfileRate(rate)
			r.setBlock = r.block.ticks()
		case block == 0:
			r.block.restore(r.prevBlock)
			r.setBlock = r.prevBlock
		default:
			runtime.SetBlockProfileRate(block)
			if r.block.known() {
				if r.prevBlock > 0 && r.block.ticks() > r.prevBlock {
					r.block.restore(r.prevBlock) // the program's own is finer
				}
				r.setBlock = r.block.ticks()
			}
		}
	}
	if block == 0 && !r.ctlBlock.held {
		r.blockOurs = false
	}
	if r.mutexOurs && runtime.SetMutexProfileFraction(-1) == r.setMutex {
		r.setMutex = r.prevMutex
		if r.ctlMutex.held {
			r.setMutex = r.ctlMutex.rate
		}
		if mutex > 0 {
			r.setMutex = finer(mutex, r.setMutex)
		}
		runtime.SetMutexProfileFraction(r.setMutex)
	}
	if mutex == 0 && !r.ctlMutex.held {
		r.mutexOurs = false
	}
}

// errBlockRate: what cannot be read cannot be put back, so it is not set.
var errBlockRate = errors.New("the block profile rate of this build cannot be read and the program already profiles blocking: it was left as it is")

// controlBlock puts a rate (in nanoseconds; 0 = off) in the place of the
// program's own.
func (r *rates) controlBlock(nanos int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.find.Do(func() { r.block = findBlockRate() })
	if !r.blockOurs {
		if r.takeBlock(); !r.blockOurs {
			return errBlockRate
		}
	}
	r.ctlBlock = controlRate{held: true, rate: nanos}
	r.apply()
	return nil
}

// controlMutex puts a fraction (0 = off) in the place of the program's own.
func (r *rates) controlMutex(fraction int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mutexOurs {
		r.takeMutex()
	}
	r.ctlMutex = controlRate{held: true, rate: fraction}
	r.apply()
	return nil
}

// endControl gives one of the two rates back to the program, or leaves that to
// the last window that runs.
func (r *rates) endControl(c *controlRate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.leases) > 0 {
		c.ending = c.held
		return
	}
	*c = controlRate{}
	r.apply()
}

// blockNow is the rate without what windows set: a control's (held), in
// nanoseconds, or the program's, in ticks; ticks is -1 where it cannot be read.
func (r *rates) blockNow() (nanos int, ticks int64, held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.find.Do(func() { r.block = findBlockRate() })
	switch {
	case r.ctlBlock.held:
		return r.ctlBlock.rate, 0, true
	case r.blockOurs:
		return 0, int64(r.prevBlock), false
	case r.block.known():
		return 0, int64(r.block.ticks()), false
	}
	return 0, -1, false
}

// mutexNow is the fraction without what windows set.
func (r *rates) mutexNow() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ctlMutex.held:
		return r.ctlMutex.rate
	case r.mutexOurs:
		return r.prevMutex
	}
	return runtime.SetMutexProfileFraction(-1)
}

// finer returns the smaller rate, where 0 means none.
func finer(a, b int) int {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
