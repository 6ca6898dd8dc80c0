package agent

import (
	"bytes"
	"io"
	"sync"
	"time"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// recorder is something that records on its own goroutine until it is told to
// finish. A nil recorder has finished.
type recorder struct {
	once sync.Once
	end  chan struct{} // closed to finish
	done chan struct{} // closed when it has
	late func()        // it did not finish in time
}

// finishWithin bounds the wait for a recorder. The runtime's stop functions wait
// for what they write to, and for each other; a stranger can hold them up.
const finishWithin = 20 * time.Second

func (r *recorder) finish() {
	if r == nil {
		return
	}
	r.once.Do(func() {
		close(r.end)
		patience := time.NewTimer(finishWithin)
		defer patience.Stop()
		select {
		case <-r.done:
		case <-patience.C:
			r.late()
		}
	})
}

// heldWriter keeps what it is given in memory and notes whether anything came.
// A CPU profile is written only when it is stopped, so bytes before our stop
// mean that someone else stopped it.
type heldWriter struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (h *heldWriter) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.Write(p)
}

func (h *heldWriter) any() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.Len() > 0
}

// recordCPU profiles the CPU until end, in segments that are sent as each
// closes: a process that dies loses only the last one.
func (w *window) recordCPU(end time.Time) *recorder {
	r := &recorder{end: make(chan struct{}), done: make(chan struct{})}
	r.late = func() {
		w.lose(loss(agentv1.Kind_KIND_CPU, lossTimedOut, "the CPU profile did not stop within %v: something else in the process holds the profiler", finishWithin))
	}
	started := w.agent.spawn("cpu profile", func() {
		defer close(r.done)
		w.cpuSegments(r, end)
	})
	if !started {
		close(r.done)
	}
	return r
}

func (w *window) cpuSegments(r *recorder, end time.Time) {
	const kind = agentv1.Kind_KIND_CPU
	var (
		gap, busy time.Duration // not covered: between segments, in use by others
		inUse     error
		segments  int
		lastStop  time.Time
		recording bool
	)
	defer func() {
		if recording { // a panic on the way
			theRuntime.stopCPU(true)
		}
		switch {
		case segments == 0 && inUse != nil:
			w.lose(loss(kind, lossInUse, "there is no CPU profile: %v", inUse))
		case inUse != nil:
			w.lose(loss(kind, lossInUse, "the CPU profile misses %v of the window: %v", busy.Round(time.Millisecond), inUse))
		}
		if gap > 0 {
			w.lose(loss(kind, lossGap, "the CPU profile was taken in %d segments; %v between them were not sampled", segments, gap.Round(time.Microsecond)))
		}
	}()
	sleep := func(d time.Duration) (on bool) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return true
		case <-r.end:
			return false
		}
	}
	for {
		left := time.Until(end)
		if left <= 0 {
			<-r.end // the window may go on for a moment
			return
		}
		segmentMax := w.agent.tune.cpuSegment
		length := left / max((left+segmentMax-time.Millisecond)/segmentMax, 1)
		held := &heldWriter{}
		at := time.Now()
		if err := theRuntime.startCPU(w.plan.id, held); err != nil {
			inUse = err
			on := sleep(min(time.Second, left))
			busy += time.Since(at)
			lastStop = time.Time{} // not a gap of ours
			if !on {
				return
			}
			continue
		}
		if !lastStop.IsZero() {
			gap += at.Sub(lastStop)
		}
		recording = true
		on := sleep(length)
		ours := !held.any()
		theRuntime.stopCPU(ours)
		recording = false
		lastStop = time.Now()
		var losses []*agentv1.Loss
		if !ours {
			losses = append(losses, loss(kind, lossTruncated, "something else in the process stopped the CPU profile before its time: it covers less than its window"))
		}
		a := w.newArtifact(cpuSegmentName(segments), kind, agentv1.Phase_PHASE_WINDOW, segments, at)
		losses = append(losses, a.fill(func(out io.Writer) error {
			_, err := held.buf.WriteTo(out)
			return err
		})...)
		a.close(lastStop, losses...)
		segments++
		if !on {
			return
		}
	}
}
