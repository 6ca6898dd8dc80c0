package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// window is a stretch of time.
type window struct{ start, end time.Time }

// derivation makes the artifacts of one target that the centre computes: the
// sum of the CPU segments, and the difference of each pair of snapshots.
type derivation struct {
	e         *Engine
	ctx       context.Context // ends reading; what is durable by then stays
	capture   ops.CaptureID
	instance  ops.InstanceID
	spec      ops.Spec
	asked     window
	artifacts []ops.Artifact
}

// run returns the artifacts that there are afterwards, and what could not be
// made. A file that cannot be used stays as it arrived.
func (d *derivation) run() (after []ops.Artifact, losses []ops.Loss) {
	select {
	case d.e.deriving <- struct{}{}:
		defer func() { <-d.e.deriving }()
	case <-d.ctx.Done():
		return d.artifacts, nil
	}
	losses = append(losses, d.mergeCPU()...)
	for _, k := range ops.FullSet() {
		if k.HasDelta() {
			losses = append(losses, d.delta(k)...)
		}
	}
	return d.artifacts, losses
}

// lost is the loss of a file of kind k.
func lost(k ops.Kind, r ops.LossReason, format string, args ...any) ops.Loss {
	return ops.Loss{Kind: k, Reason: r, Message: fmt.Sprintf(format, args...)}
}

// mergeCPU sums the CPU segments into one profile and removes them.
func (d *derivation) mergeCPU() (losses []ops.Loss) {
	var whole []ops.Artifact // segments that arrived to their end
	var inherited []ops.Loss
	for _, a := range d.artifacts {
		switch {
		case a.Kind != ops.KindCPU:
		case a.Name == ops.KindCPU.FileName():
			return nil // the instance sent it in one piece
		case a.Partial:
			losses = append(losses, lost(ops.KindCPU, ops.LossTruncated, "%s arrived incomplete and is not part of cpu.pprof: it is kept as it is", a.Name))
		default:
			whole = append(whole, a)
		}
	}
	if len(whole) == 0 {
		return losses
	}
	slices.SortFunc(whole, func(a, b ops.Artifact) int { return a.WindowStart.Compare(b.WindowStart) })

	merged := ops.Artifact{Name: ops.KindCPU.FileName(), Kind: ops.KindCPU, Phase: ops.PhaseWindow, Derived: true}
	put := func(use []ops.Artifact) error {
		merged.TakenAt, merged.WindowStart, merged.WindowEnd = use[0].TakenAt, use[0].WindowStart, use[len(use)-1].WindowEnd
		merged.Losses = nil
		for _, a := range use {
			inherited = append(inherited, a.Losses...)
		}
		for _, l := range append(inherited, uncovered(use, d.asked)...) {
			if !slices.Contains(merged.Losses, l) {
				merged.Losses = append(merged.Losses, l)
			}
		}
		return d.put(&merged, use, d.e.profiles.Merge)
	}
	err := put(whole)
	if err != nil && errors.Is(err, errReading) && d.ctx.Err() == nil {
		// One file that is no profile must not cost the others.
		var readable []ops.Artifact
		for _, a := range whole {
			if err := d.try(a); err != nil {
				losses = append(losses, lost(ops.KindCPU, ops.LossFailed, "%s is not part of cpu.pprof, and kept as it is: %v", a.Name, err))
				continue
			}
			readable = append(readable, a)
		}
		if whole = readable; len(whole) == 0 {
			return losses
		}
		err = put(whole)
	}
	if err != nil {
		return append(losses, lost(ops.KindCPU, ops.LossFailed, "the CPU segments could not be merged, and are kept as they are: %v", err))
	}
	for _, a := range whole {
		if err := d.e.archive.Remove(context.WithoutCancel(d.ctx), d.ref(a.Name)); err != nil {
			d.e.log.Warn("merged segment not removed", "artifact", d.ref(a.Name).String(), "error", err)
			continue
		}
		d.artifacts = slices.DeleteFunc(d.artifacts, func(x ops.Artifact) bool { return x.Name == a.Name })
	}
	d.artifacts = append(d.artifacts, merged)
	return losses
}

// uncovered states the time that segments leave out: between them, and of what
// was asked for at either end where it is more than a little.
func uncovered(segments []ops.Artifact, asked window) (losses []ops.Loss) {
	var gaps, covered time.Duration
	for i, s := range segments {
		if s.WindowStart.IsZero() || s.WindowEnd.IsZero() {
			return nil // unknown: nothing to say
		}
		covered += s.WindowEnd.Sub(s.WindowStart)
		if i > 0 {
			gaps += max(0, s.WindowStart.Sub(segments[i-1].WindowEnd))
		}
	}
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }
	if round(gaps) > 0 { // what is shorter than a sample is no loss
		losses = append(losses, lost(ops.KindCPU, ops.LossGap, "recorded in %d segments: %v between them is not covered", len(segments), round(gaps)))
	}
	if whole := asked.end.Sub(asked.start); whole-covered-gaps > max(whole/20, 500*time.Millisecond) {
		losses = append(losses, lost(ops.KindCPU, ops.LossGap, "covers %v of the %v that were asked for", covered.Round(100*time.Millisecond), whole.Round(100*time.Millisecond)))
	}
	return losses
}

// delta subtracts the snapshot from before the window from the one after it.
func (d *derivation) delta(k ops.Kind) []ops.Loss {
	before, after := d.named(k.FileNameBefore()), d.named(k.FileNameAfter())
	switch {
	case d.named(k.FileName()) != nil, before == nil && after == nil:
		return nil
	case after == nil:
		return []ops.Loss{lost(k, ops.LossFailed, "the snapshot from the window's end is missing, so that there is no %s of the window: %s holds the totals of the process up to its start", k.FileName(), before.Name)}
	case before == nil:
		return []ops.Loss{lost(k, ops.LossFailed, "the snapshot from the window's start is missing, so that there is no %s of the window: %s holds the totals of the process up to its end", k.FileName(), after.Name)}
	case before.Partial || after.Partial:
		return []ops.Loss{lost(k, ops.LossTruncated, "a snapshot arrived incomplete, so that there is no %s of the window: %s and %s are kept as they are", k.FileName(), before.Name, after.Name)}
	}
	a := ops.Artifact{
		Name: k.FileName(), Kind: k, Phase: ops.PhaseWindow, Derived: true,
		TakenAt: after.TakenAt, WindowStart: before.TakenAt, WindowEnd: after.TakenAt,
	}
	for _, l := range slices.Concat(before.Losses, after.Losses) {
		if !slices.Contains(a.Losses, l) {
			a.Losses = append(a.Losses, l)
		}
	}
	err := d.put(&a, []ops.Artifact{*before, *after}, func(w io.Writer, in ...io.Reader) error { return d.e.profiles.Delta(w, in[0], in[1]) })
	if err != nil {
		return []ops.Loss{lost(k, ops.LossFailed, "%s could not be subtracted from %s; both are kept as they are: %v", before.Name, after.Name, err)}
	}
	d.artifacts = append(d.artifacts, a)
	return nil
}

// errReading marks errors of the inputs, not of the archive.
var errReading = errors.New("profile not readable")

// put makes an artifact out of others, durably.
func (d *derivation) put(a *ops.Artifact, from []ops.Artifact, combine func(io.Writer, ...io.Reader) error) error {
	in, err := d.openAll(from)
	if err != nil {
		return err
	}
	defer in.close()
	var reading error
	count := &counter{}
	err = d.e.archive.Put(context.WithoutCancel(d.ctx), d.ref(a.Name), *a, func(w io.Writer) error {
		count.n = 0
		count.w = w
		reading = combine(count, in.readers...)
		return reading
	})
	if reading != nil {
		return fmt.Errorf("%w: %w", errReading, reading)
	}
	a.SizeBytes = count.n
	return err
}

// try reads one segment alone.
func (d *derivation) try(a ops.Artifact) error {
	in, err := d.openAll([]ops.Artifact{a})
	if err != nil {
		return err
	}
	defer in.close()
	return d.e.profiles.Merge(io.Discard, in.readers...)
}

func (d *derivation) ref(name string) ops.ArtifactRef {
	return ops.ArtifactRef{Capture: d.capture, Instance: d.instance, Name: name}
}

func (d *derivation) named(name string) *ops.Artifact {
	for i := range d.artifacts {
		if d.artifacts[i].Name == name {
			return &d.artifacts[i]
		}
	}
	return nil
}

// inputs are open artifacts.
type inputs struct {
	blobs   []ops.Blob
	readers []io.Reader
}

func (d *derivation) openAll(artifacts []ops.Artifact) (in inputs, err error) {
	for _, a := range artifacts {
		b, _, err := d.e.archive.OpenArtifact(d.ctx, d.ref(a.Name))
		if err != nil {
			in.close()
			return inputs{}, err
		}
		in.blobs = append(in.blobs, b)
		in.readers = append(in.readers, untilDone{d.ctx, b})
	}
	return in, nil
}

func (in inputs) close() {
	for _, b := range in.blobs {
		_ = b.Close() // read only
	}
}

// untilDone reads until its context ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := context.Cause(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
