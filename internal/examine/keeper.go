package examine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/diagnosis"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/report"
)

// Archive is what a Keeper needs of the archive.
type Archive interface {
	Capture(context.Context, ops.CaptureID) (ops.Capture, error)
	Captures(context.Context, ops.CaptureFilter) ([]ops.Capture, error)
	OpenArtifact(context.Context, ops.ArtifactRef) (ops.Blob, ops.Artifact, error)
	Findings(context.Context, ops.CaptureID) (ops.Findings, error)
	PutFindings(context.Context, ops.CaptureID, ops.Findings) error
}

// KeeperConfig is what a Keeper is made of. Archive and Changed are needed.
type KeeperConfig struct {
	Archive Archive
	// Changed tells which captures changed.
	Changed func() *changes.Subscription[ops.CaptureID]
	// Said is called when a capture was diagnosed; nil = nobody wants to know.
	Said func(ops.CaptureID)
	// Told is called when a capture was diagnosed for the first time, with what
	// was said of it; nil = nobody wants to know. It must not block.
	Told   func(ops.Capture, ops.Findings)
	Logger *slog.Logger // nil = silent
}

// Keeper diagnoses each capture when it ends and keeps what was said with it,
// and says it anew when the rules have changed.
type Keeper struct {
	c   KeeperConfig
	log *slog.Logger
	// one diagnosis of a capture at a time, whoever asks; turn bounds them all:
	// they take a few hundred megabytes each.
	flight singleflight.Group
	turn   chan struct{}
	mu     sync.Mutex // guards all below
	// life ends with Run, and with it every diagnosis.
	life      context.Context
	headlines map[ops.CaptureID]ops.Headline
	under     map[ops.CaptureID]*run
	barred    map[ops.CaptureID]int // captures that are being deleted
}

// NewKeeper makes a keeper, which does nothing by itself before Run.
func NewKeeper(c KeeperConfig) *Keeper {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Keeper{
		c: c, log: c.Logger, turn: make(chan struct{}, 1), life: context.Background(),
		headlines: map[ops.CaptureID]ops.Headline{}, under: map[ops.CaptureID]*run{}, barred: map[ops.CaptureID]int{},
	}
}

// redo is how many of the newest captures are diagnosed again at start if the
// rules have changed; older ones when somebody asks.
const redo = 20

// Run diagnoses what ends until ctx does, and returns when nothing is under way.
func (k *Keeper) Run(ctx context.Context) error {
	k.mu.Lock()
	k.life = ctx
	k.mu.Unlock()
	sub := k.c.Changed()
	defer sub.Close()
	var under sync.WaitGroup
	defer under.Wait()
	under.Go(func() { k.refresh(ctx) })
	for {
		ids, err := sub.Next(ctx)
		if err != nil {
			return nil //nolint:nilerr // the end of ctx is how Run ends
		}
		for _, id := range ids {
			under.Go(func() { k.ensure(ctx, id) })
		}
	}
}

// refresh looks after the newest captures once.
func (k *Keeper) refresh(ctx context.Context) {
	all, err := k.c.Archive.Captures(ctx, ops.CaptureFilter{Limit: redo})
	if err != nil {
		k.log.Warn("captures not looked at for new rules", "error", err)
		return
	}
	for _, c := range all {
		k.ensure(ctx, c.ID)
	}
}

// ensure diagnoses a capture that has ended, unless that is done.
func (k *Keeper) ensure(ctx context.Context, id ops.CaptureID) {
	c, err := k.c.Archive.Capture(ctx, id)
	if err != nil || !worth(c) {
		return
	}
	if _, err := k.Findings(ctx, id); err != nil && ctx.Err() == nil && ops.KindOf(err) != ops.NotFound {
		k.log.Warn("capture not diagnosed", "capture", id, "error", err)
	}
}

// worth reports whether there is anything to diagnose.
func worth(c ops.Capture) bool {
	if !c.State.Ended() {
		return false
	}
	for _, t := range c.Targets {
		if len(t.Artifacts) > 0 {
			return true
		}
	}
	return false
}

// Findings returns what today's rules say of a capture: what was kept, or, if
// that is missing or of other rules, a new diagnosis, which is then kept.
// Conflict while the capture runs.
func (k *Keeper) Findings(ctx context.Context, id ops.CaptureID) (ops.Findings, error) {
	f, err := k.c.Archive.Findings(ctx, id)
	if err == nil && f.Rules == diagnosis.Version() {
		return f, nil
	}
	if err != nil && ops.KindOf(err) != ops.NotFound {
		return f, err
	}
	c, err := k.c.Archive.Capture(ctx, id)
	if err != nil {
		return f, err
	}
	if !c.State.Ended() {
		return f, ops.Errorf(ops.Conflict, "capture %s is still running: it is diagnosed when it has ended, or stop it now", id)
	}
	k.mu.Lock()
	life := k.life
	k.mu.Unlock()
	done := k.flight.DoChan(string(id), func() (any, error) { return k.diagnose(life, c) })
	select {
	case r := <-done:
		if r.Err != nil {
			return ops.Findings{}, r.Err
		}
		return r.Val.(ops.Findings), nil
	case <-ctx.Done():
		return f, ctx.Err()
	}
}

// diagnose makes and keeps the findings of a capture.
func (k *Keeper) diagnose(ctx context.Context, c ops.Capture) (ops.Findings, error) {
	ctx, leave, err := k.enter(ctx, c.ID)
	if err != nil {
		return ops.Findings{}, err
	}
	defer leave()
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return ops.Findings{}, ctx.Err()
	}
	_, err = k.c.Archive.Findings(ctx, c.ID)
	first := ops.KindOf(err) == ops.NotFound
	began := time.Now()
	res, err := Capture(ctx, c, func(ctx context.Context, ref ops.ArtifactRef) (ops.Blob, error) {
		b, _, err := k.c.Archive.OpenArtifact(ctx, ref)
		return b, err
	})
	if err != nil {
		return ops.Findings{}, err
	}
	f := ops.Findings{Rules: diagnosis.Version(), Made: time.Now().UTC().Truncate(time.Millisecond), Bodies: map[ops.Lang][]byte{}}
	for _, l := range []ops.Lang{ops.English, ops.TraditionalChinese} {
		if f.Bodies[l], err = report.JSON(res.Diagnoses, res.Outliers, l); err != nil {
			return ops.Findings{}, err
		}
	}
	if err := k.c.Archive.PutFindings(ctx, c.ID, f); err != nil {
		if ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			k.log.Warn("findings not kept", "capture", c.ID, "error", err)
		}
		return f, nil // said all the same; it is made anew when asked for again
	}
	if _, err := k.remember(c.ID, f); err != nil {
		return ops.Findings{}, err // our own words
	}
	if k.c.Said != nil {
		k.c.Said(c.ID)
	}
	if first && k.c.Told != nil {
		k.c.Told(c, f)
	}
	k.log.Info("capture diagnosed", "capture", c.ID, "took", time.Since(began).Round(time.Millisecond))
	return f, nil
}
