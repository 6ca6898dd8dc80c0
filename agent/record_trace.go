package agent

import (
	"sync"
	"time"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// recordTrace traces until it is told to finish, or until the cap.
func (w *window) recordTrace() *recorder {
	const kind = agentv1.Kind_KIND_TRACE
	r := &recorder{end: make(chan struct{}), done: make(chan struct{})}
	r.late = func() {
		w.lose(loss(kind, lossTimedOut, "the trace did not stop within %v: something else in the process holds the tracer", finishWithin))
	}
	started := w.agent.spawn("trace", func() {
		defer close(r.done)
		w.traceUntil(r)
	})
	if !started {
		close(r.done)
	}
	return r
}

// traceUntil traces until the recorder's end, or until the pipe asks to stop.
func (w *window) traceUntil(r *recorder) {
	const kind = agentv1.Kind_KIND_TRACE
	var (
		at       = time.Now()
		enough   = make(chan struct{})
		once     sync.Once
		a        *artifact
		spooling = writerFunc(func(p []byte) (int, error) { return a.Write(p) }) // from drain on
		pipe     = newTracePipe(spooling, w.plan.traceMaxBytes, func() { once.Do(func() { close(enough) }) })
	)
	if err := theRuntime.startTrace(w.plan.id, pipe); err != nil {
		w.lose(loss(kind, lossInUse, "there is no trace: %v", err))
		return
	}
	tracing := true
	defer func() {
		if tracing { // a panic on the way
			theRuntime.stopTrace()
			pipe.close()
		}
	}()
	a = w.newArtifact("trace.out", kind, agentv1.Phase_PHASE_WINDOW, 0, at)
	if !w.agent.spawn("trace spool", pipe.drain) {
		pipe.abandon()
	}
	select {
	case <-r.end:
	case <-enough:
	}
	stopAt := time.Now()
	ours := theRuntime.stopTrace()
	tracing = false
	pipe.close()
	<-pipe.drained

	asked, lost, _ := pipe.result() // a failure of the spool is a loss of the artifact
	var losses []*agentv1.Loss
	switch asked {
	case traceAtCap:
		losses = append(losses, loss(kind, lossTruncated, "the trace reached its cap of %d bytes after %v of %v: shorten the trace window or raise the cap", w.plan.traceMaxBytes, stopAt.Sub(at).Round(time.Millisecond), w.plan.traceWindow))
	case traceSpoolSlow:
		losses = append(losses, loss(kind, lossTruncated, "the trace was ended after %v of %v, for it was written faster than it could be kept", stopAt.Sub(at).Round(time.Millisecond), w.plan.traceWindow))
	}
	if !ours {
		losses = append(losses, loss(kind, lossTruncated, "something else in the process stopped the trace before its time"))
	}
	if lost > 0 {
		losses = append(losses, loss(kind, lossTruncated, "the last %d bytes of the trace were not kept: its last second may not be readable", lost))
	}
	a.close(stopAt, losses...)
	if asked != traceToTheEnd {
		<-r.end // the window goes on without it
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
