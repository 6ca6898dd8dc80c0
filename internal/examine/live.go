package examine

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/agentless"
	"github.com/opscenter/opscenter/internal/diagnosis"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// sourceURL is where an instance is from that no centre knows.
const sourceURL = "url"

// Live captures a running program through net/http/pprof, and diagnoses what it
// got. Endpoints that are missing or refuse are losses. Unavailable if nothing
// answers.
func Live(ctx context.Context, rawURL string, o Options) (Result, error) {
	more, done, err := executable(o.Binary)
	if err != nil {
		return Result{}, err
	}
	defer done()
	spec, err := ops.Spec{Duration: cmp.Or(o.Duration, DefaultDuration)}.Normalize()
	if err != nil {
		return Result{}, err
	}
	rawURL = base(rawURL)
	instance, link, err := agentless.New(agentless.Config{}).Open(ctx, ops.Target{Source: "url", URL: rawURL})
	if err != nil {
		return Result{}, err
	}
	defer link.Close()
	sink := &sink{dir: o.TempDir, keep: o.Keep, progress: o.Progress}
	defer sink.close()
	if o.Keep != "" {
		if err := os.MkdirAll(o.Keep, 0o755); err != nil {
			return Result{}, ops.Errorf(ops.Invalid, "the artifacts cannot be kept in %q: %w", o.Keep, err)
		}
	}
	summary, err := link.Collect(ctx, "diagnose", spec, sink)
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	losses := slices.Concat(summary.Losses, sink.losses)
	if err != nil {
		if len(sink.files) == 0 {
			return Result{}, err
		}
		losses = append(losses, ops.Loss{Reason: ops.LossDisconnected, Message: "the program stopped answering: " + err.Error()})
	}
	if u, err := url.Parse(rawURL); err == nil {
		instance.Source, instance.Address = sourceURL, u.Redacted() // the note's heading, and in no log: no password belongs there
	}
	e, err := evidence.Load(ctx, append(sink.files, more...), evidence.Options{Instance: instance, Losses: unique(losses)})
	if err != nil {
		return Result{}, err
	}
	e.Window = cmp.Or(e.Window, summary.WindowEnd.Sub(summary.WindowStart))
	d, err := diagnosis.Diagnose(ctx, e)
	if err != nil {
		return Result{}, err
	}
	if d.Start.IsZero() {
		d.Start = summary.WindowStart
	}
	return resultOf([]ops.Diagnosis{d}), nil
}

// base takes what people paste, one endpoint of net/http/pprof, for all of them.
func base(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return rawURL // which is refused in words by whoever opens it
	}
	const root = "/debug/pprof"
	if at := strings.LastIndex(u.Path, root+"/"); at >= 0 {
		u.Path, u.RawPath, u.RawQuery = u.Path[:at+len(root)], "", ""
	}
	return u.String()
}

// sink takes artifacts into temporary files.
type sink struct {
	dir, keep string
	progress  func(string, time.Duration, time.Duration)

	mu     sync.Mutex // guards the fields below
	files  []evidence.File
	losses []ops.Loss
	open   []*temp
}

func (s *sink) Progress(p ops.Progress) {
	if s.progress != nil {
		s.progress(p.Activity, p.Elapsed, p.Duration)
	}
}

func (s *sink) Begin(a ops.Artifact) (ops.ArtifactWriter, error) {
	t, err := newTemp(s.dir)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, t)
	return &artifact{s: s, t: t, a: a}, nil
}

func (s *sink) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.open {
		_ = t.Close() // it was only read since it was written
	}
}

// artifact is one that arrives.
type artifact struct {
	s *sink
	t *temp
	a ops.Artifact
}

func (w *artifact) Write(p []byte) (int, error) { return w.t.Write(p) }
func (w *artifact) Offset() int64               { return w.t.size }

func (w *artifact) Commit(size int64, _ []byte, final ops.Artifact) error {
	if size >= 0 && size != w.t.size {
		return ops.Errorf(ops.Corrupt, "%s has %d bytes, %d were announced", w.a.Name, w.t.size, size)
	}
	w.done(final.Losses)
	return nil
}

func (w *artifact) Abort(l ops.Loss) error {
	w.done([]ops.Loss{l})
	return nil
}

func (w *artifact) done(losses []ops.Loss) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.losses = append(w.s.losses, losses...)
	if w.t.size == 0 {
		return
	}
	w.s.files = append(w.s.files, evidence.File{Name: w.a.Name, Reader: w.t, Size: w.t.size})
	if w.s.keep != "" {
		if err := w.copyTo(filepath.Join(w.s.keep, w.a.Name)); err != nil {
			w.s.losses = append(w.s.losses, ops.Loss{Kind: w.a.Kind, Reason: ops.LossFailed, Message: strings.TrimSpace(w.a.Name + " could not be kept: " + err.Error())})
		}
	}
}

func (w *artifact) copyTo(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.NewSectionReader(w.t, 0, w.t.size))
	return errors.Join(err, f.Close())
}
