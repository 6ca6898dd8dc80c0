// Package flame answers from the profiles of captures what a page draws: call
// trees in columns, tables of functions, and a function's surroundings, of one
// instance, of the sum of several, or of two sides compared. It reads each
// profile once and keeps the last ones. It knows nothing of the wire, and
// nothing of what a profile means for a program's health.
package flame

import (
	"context"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// Archive is what a Reader needs of the archive.
type Archive interface {
	Capture(context.Context, ops.CaptureID) (ops.Capture, error)
	OpenArtifact(context.Context, ops.ArtifactRef) (ops.Blob, ops.Artifact, error)
}

// Source names a profile, or the sum of the same one of several instances.
type Source struct {
	Capture ops.CaptureID
	// Instances is empty for all that have the artifact.
	Instances []ops.InstanceID
	Artifact  string
}

// Query says what is looked at, and how.
type Query struct {
	Source Source
	// Base is the state before, which Source is compared with; nil = nothing.
	Base *Source
	// Type is the name of a sample type; "" = the profile's own default.
	Type   string
	Filter profile.Filter
	// Normalise scales the values of Source so that both sides have the same sum.
	Normalise bool
}

// Side is what was read of one side.
type Side struct {
	Instances []ops.InstanceID
	Artifact  string
	// Total is what percentages refer to: the sum of the absolute values of all
	// samples, of Source after scaling.
	Total    int64
	Samples  int
	Taken    time.Time     // zero = unknown
	Duration time.Duration // 0 = a moment, or unknown
	Losses   []ops.Loss
}

// Subject is what every answer is about.
type Subject struct {
	// Types are those that can be asked for, Type is the one of this answer.
	Types  []profile.ValueType
	Type   int
	Source Side
	Base   *Side // nil = nothing was compared
}

// Config is what a Reader is made of. Archive is needed.
type Config struct {
	Archive Archive
	// Limits of each profile; the zero value means the reader's defaults.
	Limits profile.Limits
	// CacheBytes is how much of decoded profiles is kept, by estimate; 0 =
	// 256 MiB: some dozens of ordinary profiles.
	CacheBytes int64
	// Idle is how long a profile is kept that nobody looks at; 0 = 10 minutes.
	Idle time.Duration
}

// Reader answers queries. It is safe for concurrent use.
type Reader struct {
	archive Archive
	limits  profile.Limits
	kept    *store
}

// New makes a reader, which does nothing by itself before Run.
func New(c Config) *Reader {
	if c.CacheBytes == 0 {
		c.CacheBytes = 256 << 20
	}
	if c.Idle == 0 {
		c.Idle = 10 * time.Minute
	}
	return &Reader{archive: c.Archive, limits: c.Limits, kept: newStore(c.CacheBytes, c.Idle)}
}

// Run forgets profiles that nobody looks at any more, until ctx ends.
func (r *Reader) Run(ctx context.Context) error { return r.kept.run(ctx) }

// loaded is a profile and what is to be said of it.
type loaded struct {
	*profile.Profile
	side Side
}

// both reads the two sides of a query; before is nil without a base.
func (r *Reader) both(ctx context.Context, q Query) (before, after *loaded, err error) {
	if q.Base != nil {
		if before, err = r.load(ctx, *q.Base); err != nil {
			return nil, nil, ops.Errorf(ops.KindOf(err), "the side to compare with: %w", err)
		}
	}
	after, err = r.load(ctx, q.Source)
	return before, after, err
}

// about tells of both sides, one sample type of which is shown: the place of it
// among the types, and in the profile of either side.
func about(types []profile.ValueType, typ int, before, after *loaded, normalise bool) Subject {
	s := Subject{Types: types, Type: typ, Source: after.of(types[typ])}
	if before != nil {
		base := before.of(types[typ])
		s.Base = &base
		if normalise && s.Source.Total != 0 {
			s.Source.Total = base.Total
		}
	}
	return s
}

func (l *loaded) of(t profile.ValueType) Side {
	side := l.side
	for i, have := range l.Types {
		if have == t {
			side.Total = l.Total(i)
		}
	}
	return side
}
