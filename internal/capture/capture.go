// Package capture turns a request into artifacts: it chooses the instances,
// holds the limits, runs one synchronised window over their links into the
// archive, derives what the raw artifacts are for, and says in words what came
// of it. It knows neither how an instance is reached nor how bytes are kept.
package capture

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// Fleet is what the engine needs to know of the instances.
type Fleet interface {
	// Instances returns those of the service that are not gone.
	Instances(ops.ServiceKey) []ops.Instance
	// Instance returns one, gone or not. NotFound if there is none.
	Instance(ops.InstanceID) (ops.Instance, error)
	// Link returns the way to an instance. Unavailable if it is away.
	Link(ops.InstanceID) (ops.Link, error)
}

// Archive is where a capture goes. Every method that changes something returns
// only after the change is durable.
type Archive interface {
	Begin(ctx context.Context, c ops.Capture) error
	Update(ctx context.Context, c ops.Capture) error
	UpdateTarget(ctx context.Context, id ops.CaptureID, t ops.CaptureTarget) error
	Create(ctx context.Context, ref ops.ArtifactRef, a ops.Artifact) (ops.ArtifactWriter, error)
	Put(ctx context.Context, ref ops.ArtifactRef, a ops.Artifact, write func(io.Writer) error) error
	Remove(ctx context.Context, ref ops.ArtifactRef) error
	Capture(ctx context.Context, id ops.CaptureID) (ops.Capture, error)
	Captures(ctx context.Context, f ops.CaptureFilter) ([]ops.Capture, error)
	OpenArtifact(ctx context.Context, ref ops.ArtifactRef) (ops.Blob, ops.Artifact, error)
	Pin(ctx context.Context, id ops.CaptureID, pinned bool) error
	Delete(ctx context.Context, id ops.CaptureID) error
	Import(ctx context.Context, r io.ReaderAt, size int64, actor string) (ops.Capture, error)
}

// Profiles is the arithmetic on pprof files that derived artifacts need; nil
// fields = package profile's, within its default limits.
type Profiles struct {
	// Merge writes the sum of profiles of one kind.
	Merge func(w io.Writer, in ...io.Reader) error
	// Delta writes after − before.
	Delta func(w io.Writer, before, after io.Reader) error
}

func (p Profiles) withDefaults() Profiles {
	if p.Merge == nil {
		p.Merge = func(w io.Writer, in ...io.Reader) error { return profile.Merge(w, profile.Limits{}, in...) }
	}
	if p.Delta == nil {
		p.Delta = func(w io.Writer, before, after io.Reader) error {
			return profile.Delta(w, profile.Limits{}, before, after)
		}
	}
	return p
}

// Limits bound what runs at once. They count windows: one instance in one
// capture is one window.
type Limits struct {
	PerInstance int `yaml:"per_instance"` // windows at once on an instance; 0 = 2
	// PerService bounds a capture that does not name its instances, on services
	// of more than ten: a quarter of them, at least one, at most this; 0 = 10.
	PerService int `yaml:"per_service"`
	PerCenter  int `yaml:"per_center"` // windows at once; 0 = 32
	// PerHour bounds the windows of an instance within any hour, against a script
	// that never stops; 0 = 60, negative = no limit.
	PerHour int `yaml:"per_hour"`
	// Cooldown is what an instance rests from the beginning of one window to that of
	// the next, on average: the first few may follow each other at once, as they do
	// when somebody looks for something; 0 = 10 s, negative = no rest.
	Cooldown time.Duration `yaml:"cooldown"`
	// Transfer is the time a target has, after its window, to deliver; 0 = 3 min.
	Transfer time.Duration `yaml:"-"`
	// Shutdown is the time that running windows have to deliver what they hold
	// when the centre ends; 0 = 10 s.
	Shutdown time.Duration `yaml:"-"`
}

// withoutRest is how many windows may follow each other before Cooldown counts.
const withoutRest = 10

// Validate says what is wrong with a limit, beginning with its key.
func (l Limits) Validate() error {
	for _, v := range []struct {
		key string
		n   int
	}{{"per_instance", l.PerInstance}, {"per_service", l.PerService}, {"per_center", l.PerCenter}} {
		if v.n < 0 {
			return ops.Errorf(ops.Invalid, "%s: %d is less than nothing: use 1 or more, or 0 for the default", v.key, v.n)
		}
	}
	if l.Cooldown > 10*time.Minute {
		return ops.Errorf(ops.Invalid, "cooldown: %v is too long: use up to 10m", l.Cooldown)
	}
	return nil
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.PerInstance, 2)
	def(&l.PerService, 10)
	def(&l.PerCenter, 32)
	def(&l.PerHour, 60)
	if l.Cooldown == 0 {
		l.Cooldown = 10 * time.Second
	}
	if l.Transfer == 0 {
		l.Transfer = 3 * time.Minute
	}
	if l.Shutdown == 0 {
		l.Shutdown = 10 * time.Second
	}
	return l
}

// Config is what an Engine is made of.
type Config struct {
	Fleet    Fleet
	Archive  Archive
	Limits   Limits
	Profiles Profiles
	Logger   *slog.Logger // nil = silent
}

// Engine runs captures. Start works while Run does, which is called once.
type Engine struct {
	fleet    Fleet
	archive  Archive
	limits   Limits
	profiles Profiles
	log      *slog.Logger
	changed  changes.Topic[ops.CaptureID]
	// deriving bounds the profiles that are in memory at once.
	deriving chan struct{}
	ready    chan struct{} // closed when Run has begun

	mu      sync.Mutex // guards all below
	open    bool       // Run runs and is not about to return
	base    context.Context
	running map[ops.CaptureID]*run
	windows map[ops.InstanceID][]ops.CaptureID // those that run now
	started map[ops.InstanceID][]time.Time     // those of the last hour
	// unrecorded are captures that ended while the archive could not be written.
	unrecorded map[ops.CaptureID]ops.Capture
	wg         sync.WaitGroup // of runs; Add only under mu while open
}

// New makes an engine that has nothing running.
func New(c Config) *Engine {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Engine{
		fleet: c.Fleet, archive: c.Archive, limits: c.Limits.withDefaults(), profiles: c.Profiles.withDefaults(), log: c.Logger,
		deriving:   make(chan struct{}, 2),
		ready:      make(chan struct{}),
		running:    map[ops.CaptureID]*run{},
		windows:    map[ops.InstanceID][]ops.CaptureID{},
		started:    map[ops.InstanceID][]time.Time{},
		unrecorded: map[ops.CaptureID]ops.Capture{},
	}
}

const recordAgain = 5 * time.Second

// Run lets captures run until ctx ends. It then ends their windows, keeps what
// arrives within Limits.Shutdown, marks the rest as cut off, and returns when
// everything has ended.
func (e *Engine) Run(ctx context.Context) error {
	base, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	e.mu.Lock()
	e.open, e.base = true, base
	e.mu.Unlock()
	close(e.ready)

	again := time.NewTicker(recordAgain)
	defer again.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-again.C:
			e.recordAgain(base)
		}
	}

	e.mu.Lock()
	e.open = false
	for _, r := range e.running {
		r.requestStop()
	}
	e.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.wg.Wait()
	}()
	grace := time.NewTimer(e.limits.Shutdown)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
		cut(errShutdown)
		<-ended
	}
	e.recordAgain(base)
	return nil
}

// Subscribe tells which captures changed: rows at once, progress of a running
// one a few times a second.
func (e *Engine) Subscribe() *changes.Subscription[ops.CaptureID] { return e.changed.Subscribe() }
