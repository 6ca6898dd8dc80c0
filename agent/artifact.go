package agent

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// artifact is one file of a capture while the agent holds it. One goroutine
// writes it and ends it; any number read.
type artifact struct {
	begin *agentv1.ArtifactBegin
	of    *capture

	mu    sync.Mutex
	store store
	size  int64
	sum   hash.Hash
	werr  error                // the first error of the store
	end   *agentv1.ArtifactEnd // nil while it grows
	acked bool
}

// Write implements io.Writer.
func (a *artifact) Write(p []byte) (int, error) {
	n, err := a.store.Write(p) // may wait; not under mu
	a.mu.Lock()
	a.size += int64(n)
	a.sum.Write(p[:n])
	if err != nil && a.werr == nil {
		a.werr = err
	}
	a.mu.Unlock()
	a.of.changed.broadcast()
	return n, err
}

// close ends the artifact with what it could not see. A write that failed is
// added as a loss.
func (a *artifact) close(windowEnd time.Time, losses ...*agentv1.Loss) {
	a.mu.Lock()
	if a.end == nil {
		if a.werr != nil {
			losses = append(losses, writeLoss(a.begin.Kind, a.begin.Name, a.werr))
		}
		a.end = &agentv1.ArtifactEnd{
			Artifact:    a.begin.Artifact,
			SizeBytes:   a.size,
			Sha256:      a.sum.Sum(nil),
			WindowStart: a.begin.TakenAt,
			WindowEnd:   timestamppb.New(windowEnd),
			Losses:      boundLosses(losses),
		}
	}
	a.mu.Unlock()
	a.of.changed.broadcast()
}

// state returns how much was written and, if it has ended, the end.
func (a *artifact) state() (size int64, end *agentv1.ArtifactEnd) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.size, a.end
}

// release gives the bytes up, for good.
func (a *artifact) release() {
	a.mu.Lock()
	a.acked = true
	a.mu.Unlock()
	a.store.close()
}

func (a *artifact) released() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.acked
}

// fill writes the artifact with fn through a buffer, for profiles are written in
// pieces of a few hundred bytes. An error of fn's own is a loss as well.
func (a *artifact) fill(fn func(io.Writer) error) (losses []*agentv1.Loss) {
	w := bufio.NewWriterSize(a, chunkBytes)
	defer func() {
		if r := recover(); r != nil {
			losses = append(losses, failLoss(a.begin.Kind, fmt.Errorf("taking %s panicked: %v", a.begin.Name, r)))
		}
	}()
	err := fn(w)
	if err == nil {
		err = w.Flush()
	}
	a.mu.Lock()
	werr := a.werr
	a.mu.Unlock()
	if err != nil && !errors.Is(err, werr) {
		losses = append(losses, failLoss(a.begin.Kind, fmt.Errorf("taking %s: %w", a.begin.Name, err)))
	}
	return losses
}

// newArtifact announces an artifact of c.
func (c *capture) newArtifact(name string, kind agentv1.Kind, phase agentv1.Phase, segment int, takenAt time.Time) *artifact {
	st := c.spool.open()
	c.mu.Lock()
	a := &artifact{
		of:    c,
		store: st,
		sum:   sha256.New(),
		begin: &agentv1.ArtifactBegin{
			Artifact:  uint32(len(c.artifacts) + 1),
			Name:      name,
			Kind:      kind,
			Phase:     phase,
			Segment:   uint32(segment),
			TakenAt:   timestamppb.New(takenAt),
			Resumable: st.resumable(),
		},
	}
	c.artifacts = append(c.artifacts, a)
	c.mu.Unlock()
	c.changed.broadcast()
	return a
}
