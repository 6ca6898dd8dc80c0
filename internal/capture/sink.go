package capture

import (
	"context"
	"sync"

	"github.com/opscenter/opscenter/internal/ops"
)

// sink takes what one link collects into the archive. Its calls come from one
// goroutine, but a broken link's last ones may race with abortOpen.
type sink struct {
	r        *run
	instance ops.InstanceID
	live     *live

	mu     sync.Mutex // guards all below
	open   map[*writer]struct{}
	names  map[string]bool
	kept   []ops.Artifact // committed, or aborted with something in them
	closed bool
}

func (s *sink) Progress(p ops.Progress) {
	s.r.mu.Lock()
	s.live.progress = p
	s.r.mu.Unlock()
	s.r.touch()
}

func (s *sink) Begin(a ops.Artifact) (ops.ArtifactWriter, error) {
	ref := ops.ArtifactRef{Capture: s.r.id, Instance: s.instance, Name: a.Name}
	if !ref.Valid() {
		return nil, ops.Errorf(ops.Corrupt, "the instance sent an artifact named %q, which cannot be a file name", a.Name)
	}
	s.mu.Lock()
	taken := s.names[a.Name]
	s.names[a.Name] = true
	s.mu.Unlock()
	if taken {
		return nil, ops.Errorf(ops.Corrupt, "the instance sent artifact %s twice", a.Name)
	}
	a.Derived, a.SHA256, a.SizeBytes, a.Partial = false, "", 0, false
	// Not the target's context: an artifact that was cut off must still be closed.
	under, err := s.r.e.archive.Create(context.WithoutCancel(s.r.ctx), ref, a)
	if err != nil {
		return nil, err
	}
	w := &writer{s: s, under: under, artifact: a}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[w] = struct{}{}
	return w, nil
}

// abortOpen ends what the link left open.
func (s *sink) abortOpen(loss ops.Loss) {
	s.mu.Lock()
	s.closed = true
	left := make([]*writer, 0, len(s.open))
	for w := range s.open {
		left = append(left, w)
	}
	s.mu.Unlock()
	for _, w := range left {
		if err := w.Abort(loss); err != nil {
			s.r.e.log.Warn("cut-off artifact not closed", "capture", s.r.id, "instance", s.instance, "artifact", w.artifact.Name, "error", err)
		}
	}
}

// take reports whether w is still open, and closes it.
func (s *sink) take(w *writer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, open := s.open[w]
	delete(s.open, w)
	return open
}

func (s *sink) keep(a ops.Artifact) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, a)
}

// writer counts what it passes on, and ends once.
type writer struct {
	s        *sink
	under    ops.ArtifactWriter
	artifact ops.Artifact
}

func (w *writer) Write(p []byte) (int, error) {
	if got := w.s.live.received.Load(); got+int64(len(p)) > ops.MaxCaptureBytes {
		return 0, ops.Errorf(ops.Exhausted, "the instance sent more than %d MiB, the most for one capture: ask for fewer kinds or a shorter trace", ops.MaxCaptureBytes>>20)
	}
	n, err := w.under.Write(p)
	w.s.live.received.Add(int64(n))
	w.s.r.touch()
	return n, err
}

func (w *writer) Offset() int64 { return w.under.Offset() }

func (w *writer) Commit(size int64, sha256 []byte, final ops.Artifact) error {
	if !w.s.take(w) {
		return ops.Errorf(ops.Conflict, "artifact %s has ended already", w.artifact.Name)
	}
	final.Derived, final.Partial = false, false
	err := w.under.Commit(size, sha256, final)
	kept := w.artifact
	kept.TakenAt, kept.WindowStart, kept.WindowEnd, kept.Losses = final.TakenAt, final.WindowStart, final.WindowEnd, final.Losses
	if kept.TakenAt.IsZero() {
		kept.TakenAt = w.artifact.TakenAt
	}
	kept.SizeBytes = w.under.Offset()
	if err != nil {
		// Not durable, or not what was sent: the archive may hold it as a part.
		kept.Partial = true
		kept.Losses = append(kept.Losses, ops.Loss{Kind: kept.Kind, Reason: ops.LossFailed, Message: err.Error()})
	}
	w.s.keep(kept)
	return err
}

func (w *writer) Abort(loss ops.Loss) error {
	if !w.s.take(w) {
		return nil
	}
	kept := w.artifact
	kept.SizeBytes, kept.Partial = w.under.Offset(), true
	kept.Losses = append(kept.Losses, loss)
	err := w.under.Abort(loss)
	if kept.SizeBytes > 0 {
		w.s.keep(kept)
	}
	return err
}
