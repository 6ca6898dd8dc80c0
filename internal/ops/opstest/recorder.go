package opstest

import (
	"sync"

	"github.com/opscenter/opscenter/internal/ops"
)

// Recorder is an ops.Sink that keeps everything in memory. The exported error
// fields, set before use, break it on purpose.
type Recorder struct {
	BeginErr, WriteErr, CommitErr error

	mu            sync.Mutex // guards all below and the artifacts
	artifacts     []*RecordedArtifact
	progress      int
	firstProgress chan struct{}
}

// RecordedArtifact is what came of one artifact.
type RecordedArtifact struct {
	Begun, Final ops.Artifact
	Data         []byte
	Committed    bool
	Size         int64
	SHA256       []byte
	Loss         ops.Loss
	// Ends counts the calls of Commit and Abort; one is right.
	Ends int
}

// NewRecorder makes an empty one.
func NewRecorder() *Recorder { return &Recorder{firstProgress: make(chan struct{})} }

// Progress counts.
func (r *Recorder) Progress(ops.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.progress++; r.progress == 1 {
		close(r.firstProgress)
	}
}

// ProgressCount is how often Progress was called.
func (r *Recorder) ProgressCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.progress
}

// FirstProgress is closed at the first call of Progress.
func (r *Recorder) FirstProgress() <-chan struct{} { return r.firstProgress }

// Begin opens an artifact in memory.
func (r *Recorder) Begin(a ops.Artifact) (ops.ArtifactWriter, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.BeginErr != nil {
		return nil, r.BeginErr
	}
	ra := &RecordedArtifact{Begun: a}
	r.artifacts = append(r.artifacts, ra)
	return &recorderWriter{r, ra}, nil
}

// Artifacts returns a copy of what was recorded so far, in order of Begin.
func (r *Recorder) Artifacts() []RecordedArtifact {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]RecordedArtifact, len(r.artifacts))
	for i, a := range r.artifacts {
		out[i] = *a
		out[i].Data = append([]byte(nil), a.Data...)
	}
	return out
}

type recorderWriter struct {
	r *Recorder
	a *RecordedArtifact
}

func (w *recorderWriter) Write(p []byte) (int, error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	if w.r.WriteErr != nil {
		return 0, w.r.WriteErr
	}
	w.a.Data = append(w.a.Data, p...)
	return len(p), nil
}

func (w *recorderWriter) Offset() int64 {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return int64(len(w.a.Data))
}

func (w *recorderWriter) Commit(size int64, sha256 []byte, final ops.Artifact) error {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.a.Ends++
	if w.r.CommitErr != nil {
		return w.r.CommitErr
	}
	w.a.Committed, w.a.Size, w.a.SHA256, w.a.Final = true, size, append([]byte(nil), sha256...), final
	return nil
}

func (w *recorderWriter) Abort(l ops.Loss) error {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.a.Ends++
	w.a.Loss = l
	return nil
}
