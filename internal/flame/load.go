package flame

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// instancesAtMost is how many profiles are summed: the sum holds all of them.
const instancesAtMost = 64

// part is one instance's share of a source.
type part struct {
	ref      ops.ArtifactRef
	artifact ops.Artifact
	name     string // of the instance, for people
}

// load reads what a source names, or takes what was read before.
func (r *Reader) load(ctx context.Context, s Source) (*loaded, error) {
	if !s.Capture.Valid() || !ops.ValidName(s.Artifact) {
		return nil, ops.Errorf(ops.Invalid, "%q of capture %q is not the name of an artifact: take both from the capture's page", s.Artifact, s.Capture)
	}
	c, err := r.archive.Capture(ctx, s.Capture)
	if err != nil {
		return nil, err
	}
	parts, missing, err := partsOf(c, s)
	if err != nil {
		return nil, err
	}
	side := Side{Artifact: s.Artifact}
	keys := make([]string, len(parts))
	for i, p := range parts {
		side.Instances = append(side.Instances, p.ref.Instance)
		for _, l := range p.artifact.Losses {
			side.Losses = append(side.Losses, lossOf(l, p, len(parts) > 1))
		}
		if p.artifact.Partial {
			side.Losses = append(side.Losses, lossOf(ops.Loss{Kind: p.artifact.Kind, Reason: ops.LossTruncated, Message: "the file is cut off"}, p, len(parts) > 1))
		}
		keys[i] = p.artifact.SHA256
		if keys[i] == "" {
			keys[i] = fmt.Sprintf("%s %d", p.ref, p.artifact.SizeBytes)
		}
	}
	for _, name := range missing {
		side.Losses = append(side.Losses, ops.Loss{Reason: ops.LossSkipped, Message: fmt.Sprintf("%s has no %s", name, s.Artifact)})
	}
	p, err := r.kept.get(ctx, strings.Join(keys, "\n"), func(ctx context.Context) (*profile.Profile, error) { return r.read(ctx, parts) })
	if err != nil {
		return nil, err
	}
	side.Samples, side.Duration = p.Samples(), time.Duration(p.DurationNanos)
	if p.TimeNanos > 0 {
		side.Taken = time.Unix(0, p.TimeNanos)
	}
	return &loaded{p, side}, nil
}

func lossOf(l ops.Loss, p part, named bool) ops.Loss {
	if named {
		l.Message = p.name + ": " + l.Message
	}
	return l
}

// partsOf finds the files that a source names, and the instances that were
// asked for and have none.
func partsOf(c ops.Capture, s Source) (parts []part, missing []string, err error) {
	left := slices.Clone(s.Instances)
	for _, t := range c.Targets {
		id := t.Instance.ID
		if len(s.Instances) > 0 {
			i := slices.Index(left, id)
			if i < 0 {
				continue
			}
			left = slices.Delete(left, i, i+1)
		}
		name := t.Instance.Address
		if name == "" {
			name = string(id)
		}
		i := slices.IndexFunc(t.Artifacts, func(a ops.Artifact) bool { return a.Name == s.Artifact })
		if i < 0 {
			missing = append(missing, name)
			continue
		}
		parts = append(parts, part{ops.ArtifactRef{Capture: c.ID, Instance: id, Name: s.Artifact}, t.Artifacts[i], name})
	}
	switch {
	case len(left) > 0:
		return nil, nil, ops.Errorf(ops.NotFound, "capture %s has no instance %q: take one from the capture's page", c.ID, left[0])
	case len(parts) == 0:
		return nil, nil, ops.Errorf(ops.NotFound, "capture %s has no %s of what was asked for: choose another kind of profile, or capture this one", c.ID, s.Artifact)
	case len(parts) > instancesAtMost:
		return nil, nil, ops.Errorf(ops.Exhausted, "%d profiles would have to be summed, at most %d are: choose fewer instances", len(parts), instancesAtMost)
	}
	return parts, missing, nil
}

// read decodes one profile, or sums several first.
func (r *Reader) read(ctx context.Context, parts []part) (*profile.Profile, error) {
	if len(parts) == 1 {
		blob, _, err := r.archive.OpenArtifact(ctx, parts[0].ref)
		if err != nil {
			return nil, err
		}
		p, err := profile.Read(reader{ctx, blob}, r.limits)
		return p, errors.Join(err, blob.Close())
	}
	var blobs []io.Closer
	var in []io.Reader
	defer func() {
		for _, b := range blobs {
			_ = b.Close()
		}
	}()
	for _, p := range parts {
		blob, _, err := r.archive.OpenArtifact(ctx, p.ref)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		blobs, in = append(blobs, blob), append(in, reader{ctx, blob})
	}
	var sum bytes.Buffer
	if err := profile.Merge(&sum, r.limits, in...); err != nil {
		return nil, err
	}
	return profile.Read(&sum, r.limits)
}

// reader stops when nobody waits any more.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
