package agent

import (
	"sync"
)

// tracePipe stands between the runtime's trace reader and the spool. Its Write
// never blocks: a blocked one would keep the runtime from handing over buffers,
// which then pile up outside the heap, and would make trace.Stop hang.
//
// When the trace is as large as it may be, or the spool is slower than the
// trace, it asks once for the trace to be stopped, and still takes what the stop
// flushes: without its end the last generation of a trace is not readable.
type tracePipe struct {
	out      interface{ Write([]byte) (int, error) }
	maxBytes int64
	stop     func() // asks for trace.Stop; must not block

	mu      sync.Mutex
	queue   [][]byte
	queued  int
	total   int64
	asked   traceEnd
	full    bool  // the flush, too, was too large
	lost    int64 // bytes that were not kept
	failed  error // of out
	closed  bool
	arrived *sync.Cond
	drained chan struct{}
}

// traceEnd is why a trace was asked to stop early.
type traceEnd int

const (
	traceToTheEnd traceEnd = iota
	traceAtCap
	traceSpoolSlow
	traceSpoolBroken
)

const (
	pipeSoftBytes = 4 << 20  // behind the spool by so much: stop
	pipeHardBytes = 12 << 20 // never hold more
	traceFlush    = 32 << 20 // a flush beyond the cap is taken up to here
)

func newTracePipe(out interface{ Write([]byte) (int, error) }, maxBytes int64, stop func()) *tracePipe {
	p := &tracePipe{out: out, maxBytes: maxBytes, stop: stop, drained: make(chan struct{})}
	p.arrived = sync.NewCond(&p.mu)
	return p
}

// Write implements io.Writer for the runtime, on a goroutine of the runtime: it
// must neither block nor panic. It always claims success, for the runtime does
// not look.
func (p *tracePipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := int64(len(b))
	if p.closed || p.full || p.failed != nil || p.total+n > p.maxBytes+traceFlush || p.queued+len(b) > pipeHardBytes {
		p.full = !p.closed
		p.lost += n
		p.ask(traceSpoolSlow)
		return len(b), nil
	}
	p.total += n
	p.queued += len(b)
	p.queue = append(p.queue, append([]byte(nil), b...)) // the runtime uses b again
	p.arrived.Signal()
	switch {
	case p.total > p.maxBytes:
		p.ask(traceAtCap)
	case p.queued > pipeSoftBytes:
		p.ask(traceSpoolSlow)
	}
	return len(b), nil
}

// ask asks for the stop once; the caller holds mu.
func (p *tracePipe) ask(why traceEnd) {
	if p.asked == traceToTheEnd && !p.closed {
		p.asked = why
		p.stop()
	}
}

// drain moves the queue to the spool until close, then closes drained.
func (p *tracePipe) drain() {
	defer close(p.drained)
	for {
		p.mu.Lock()
		for len(p.queue) == 0 && !p.closed {
			p.arrived.Wait()
		}
		if len(p.queue) == 0 {
			p.mu.Unlock()
			return
		}
		batch := p.queue
		p.queue = nil
		p.mu.Unlock()
		for _, b := range batch {
			_, err := p.out.Write(b)
			p.mu.Lock()
			p.queued -= len(b)
			if err != nil && p.failed == nil {
				p.failed = err
				p.ask(traceSpoolBroken)
			}
			if p.failed != nil {
				p.lost += int64(len(b))
			}
			failed := p.failed
			p.mu.Unlock()
			if failed != nil {
				break
			}
		}
	}
}

// close says that the trace has ended: drain writes the rest and returns.
func (p *tracePipe) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.arrived.Signal()
}

// abandon is instead of drain, when nothing will.
func (p *tracePipe) abandon() {
	p.close()
	close(p.drained)
}

// result says how the trace ended, once it was drained.
func (p *tracePipe) result() (asked traceEnd, lost int64, failed error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked, p.lost, p.failed
}
