// Package discovery learns from its sources which targets there are and keeps
// one connection attempt running for each. It must not know what a connection
// is made of, nor who is alive.
//
// A source that fails keeps what it said last: a stale list costs a few vain
// attempts, a list that is empty by mistake costs every instance.
package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Source says which targets exist. Implementations run opstest.TestSource.
type Source interface {
	// Name is unique among the sources, such as "static" or "file-sd".
	Name() string
	// Run calls update with the full list at first and whenever it changes, from
	// one goroutine, until ctx ends; it then returns nil or the context's error.
	// It never calls update for trouble with its backend: the last list stays.
	// Any other error means that it has to be run again.
	//
	// A source that can have trouble embeds *Trouble and says so there: what it
	// said last then counts as stale. One that knows how many there should be is an
	// Expecter as well.
	Run(ctx context.Context, update func([]ops.Target)) error
}

// Config makes a Manager.
type Config struct {
	Sources []Source
	// Dir is where the last list of each source outlives the centre; empty =
	// nowhere.
	Dir string
	// Connect makes an instance of a target and blocks for as long as the
	// connection lives. It is called again, after a while, whatever it returned.
	// When the target is no longer listed, ctx ends with a NotFound cause.
	Connect func(ctx context.Context, t ops.Target) error
	// Awaited tells of targets that nobody can dial, in their order, whether their
	// agents have come; nil = nobody knows.
	Awaited func([]ops.Target) []ops.Awaited
	// Logger tells of targets that come, go and cannot be reached; nil = silent.
	Logger *slog.Logger
}

// The pause between two attempts doubles from the first to the last, with jitter.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
	// steadyAfter is how long a connection must last for the pause to start over.
	steadyAfter = 30 * time.Second
	// spreadEach keeps thousands of new targets from being dialled in one instant.
	spreadEach = 200 * time.Microsecond
	spreadMax  = 5 * time.Second
)

// Manager runs sources and connections.
type Manager struct {
	dir     string
	connect func(context.Context, ops.Target) error
	awaited func([]ops.Target) []ops.Awaited
	log     *slog.Logger

	mu      sync.Mutex // guards all below, and what slots point to
	slots   []*slot    // in the order of the configuration; the slice never changes
	running map[string]*connection
	ctx     context.Context // Run's; nil = it does not run
	ended   bool
	wg      sync.WaitGroup // of connections and sources; Add under mu while not ended
}

// slot is a source and what is known of it.
type slot struct {
	source Source
	list   []ops.Target // the last it said; the slice never changes
	state
	// want is how many its namesake said there should be, until it says so itself.
	want    map[ops.ServiceKey]ops.Expectation
	awaited map[string]time.Time // since when targets without a URL are listed
	stop    context.CancelFunc   // nil until it runs
}

type connection struct {
	target ops.Target
	stop   context.CancelCauseFunc

	// Of the attempts, guarded by Manager.mu:
	trying  time.Time // when the one that runs began; zero = none runs
	problem string    // of the last one
	since   time.Time // when the first of those that failed in a row began
}

// state is what is known of a source besides its list.
type state struct {
	heard   time.Time // when it last said a list in this run
	from    time.Time // of a list from before the centre started; zero = of this run
	unsaved bool
}

// Status is how a source does.
type Status struct {
	Source  string
	Targets int
	// Heard is when it last said what there is; zero = not yet.
	Heard time.Time
	// Problem says what keeps the list from being renewed; empty = it is current.
	Problem string
	// StaleSince is how old the list is; zero = it is current, or there is none.
	StaleSince time.Time
	// Expects is of how many services it says how many instances there should be.
	Expects int
	// Unknown says why it does not say so of more; empty = nothing keeps it from it.
	Unknown string
}

// Status tells how each source does, in the order of the configuration.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Status, len(m.slots))
	for n, s := range m.slots {
		out[n] = s.status()
	}
	return out
}

// status is called with Manager.mu held: what sources say of themselves does not block.
func (s *slot) status() Status {
	out := Status{Source: s.source.Name(), Targets: len(s.list), Heard: s.heard, StaleSince: s.from}
	if t, ok := s.source.(interface {
		Problem() string
		ProblemSince() time.Time
	}); ok {
		if out.Problem = t.Problem(); out.Problem != "" && out.StaleSince.IsZero() && !out.Heard.IsZero() {
			out.StaleSince = t.ProblemSince()
		}
	}
	out.Expects = len(s.expected())
	if e, ok := s.source.(Expecter); ok {
		_, out.Unknown = e.Expected()
	}
	return out
}

// NewManager makes a manager; Run starts it.
func NewManager(cfg Config) *Manager {
	m := &Manager{
		dir: cfg.Dir, connect: cfg.Connect, awaited: cfg.Awaited, log: cfg.Logger, running: map[string]*connection{},
	}
	m.slots = slotsOf(cfg.Sources)
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	return m
}

// Run runs the sources and connections until ctx ends and all of them have.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	m.ctx = ctx
	for _, s := range m.slots {
		m.start(s)
	}
	if m.dir != "" {
		m.wg.Go(func() { m.keep(ctx) })
	}
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.wg.Wait()
	return nil
}

func (m *Manager) runSource(ctx context.Context, in *slot) {
	pause, s := firstPause, in.source
	for ctx.Err() == nil {
		began := time.Now()
		err := s.Run(ctx, func(list []ops.Target) { m.apply(in, list, time.Time{}) })
		if ctx.Err() != nil {
			return
		}
		m.log.Warn("source ended, will run it again and keep its last list", "source", s.Name(), "error", err)
		if time.Since(began) > steadyAfter {
			pause = firstPause
		}
		pause = wait(ctx, pause)
	}
}

// apply takes a source's new list, drops the connections of targets that are
// listed no longer, or differently, and starts those that are missing. A URL
// that several sources list belongs to the first of them. A list from before the
// centre started, saved at that time, gives way to one of this run.
func (m *Manager) apply(in *slot, list []ops.Target, saved time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended || (!saved.IsZero() && !in.heard.IsZero()) || !slices.Contains(m.slots, in) {
		return
	}
	if in.from = saved; saved.IsZero() {
		in.heard, in.unsaved = time.Now(), true
	}
	in.list = slices.Clone(list)
	in.await(time.Now())
	m.reconcile(in)
}

// reconcile makes the connections those of the lists. news is the source that
// said something; nil = the sources themselves are others. m.mu is held.
func (m *Manager) reconcile(news *slot) {
	wanted := map[string]ops.Target{}
	for _, from := range m.slots {
		for _, t := range from.list {
			if t.URL == "" {
				continue // whoever is there dials
			}
			t.Source = from.source.Name()
			first, listed := wanted[t.URL]
			if !listed {
				wanted[t.URL] = t
			} else if isNews := news == nil || from == news || first.Source == news.source.Name(); isNews && (first.Project != t.Project || first.Service != t.Service) {
				// Who looks for the second name would look in vain.
				m.log.Warn("target left out: its URL is listed twice and belongs to the first", "source", t.Source, "service", string(t.Project)+"/"+string(t.Service),
					"url", redact(t.URL), "first", string(first.Project)+"/"+string(first.Service), "first_source", first.Source)
			}
		}
	}
	var missing []ops.Target
	for u, c := range m.running {
		t, listed := wanted[u]
		switch {
		case !listed:
			c.stop(ops.Errorf(ops.NotFound, "no longer listed by %s", c.target.Source))
			delete(m.running, u)
		case !same(t, c.target):
			c.stop(ops.Errorf(ops.NotFound, "listed differently by %s", t.Source))
			delete(m.running, u)
		}
	}
	for u, t := range wanted {
		if m.running[u] == nil {
			missing = append(missing, t)
		}
	}
	if len(missing) > 0 {
		source := "configuration"
		if news != nil {
			source = news.source.Name()
		}
		m.log.Info("targets changed", "source", source, "targets", len(wanted), "new", len(missing))
	}
	spread := min(time.Duration(len(missing))*spreadEach, spreadMax)
	for _, t := range missing {
		cctx, stop := context.WithCancelCause(m.ctx)
		c := &connection{target: t, stop: stop}
		m.running[t.URL] = c
		m.wg.Go(func() {
			defer stop(nil)
			m.keepConnected(cctx, c, rand.N(spread+1))
		})
	}
}

func same(a, b ops.Target) bool {
	return a.Project == b.Project && a.Service == b.Service && a.Source == b.Source && maps.Equal(a.Labels, b.Labels)
}

func (m *Manager) keepConnected(ctx context.Context, c *connection, delay time.Duration) {
	sleep(ctx, delay)
	pause, last, t := firstPause, "", c.target
	for ctx.Err() == nil {
		began := time.Now()
		m.tries(c, began)
		err := m.connect(ctx, t)
		if ctx.Err() != nil {
			return
		}
		m.tried(c, err)
		if time.Since(began) > steadyAfter {
			pause, last = firstPause, ""
		}
		if err != nil && err.Error() != last { // once a reason, not once an attempt
			last = err.Error()
			m.log.Warn("target not connected, will try again", "source", t.Source, "service", string(t.Project)+"/"+string(t.Service), "url", redact(t.URL), "error", err)
		}
		pause = wait(ctx, pause)
	}
}

// wait sleeps for half to all of the pause and returns the next.
func wait(ctx context.Context, pause time.Duration) time.Duration {
	sleep(ctx, pause/2+rand.N(pause/2))
	return min(2*pause, lastPause)
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func redact(raw string) string {
	if u, err := url.Parse(raw); err == nil {
		return u.Redacted()
	}
	return raw
}

// The limits of a target's labels.
const (
	MaxLabels     = 30
	MaxLabelName  = 128
	MaxLabelValue = 256
)

// DefaultPprofPath is where net/http/pprof serves unless told otherwise.
const DefaultPprofPath = "/debug/pprof"

// Normalize checks what a source read and fills in what may be left out: the
// project ("default") and the path of a pprof URL. Its Invalid errors say how
// to write it.
func Normalize(t ops.Target) (ops.Target, error) {
	t.Project = cmp.Or(t.Project, "default")
	if !ops.ValidName(string(t.Project)) {
		return t, ops.Errorf(ops.Invalid, "project %q is not a valid name: use letters, digits, dot, underscore and hyphen", t.Project)
	}
	if t.Service == "" {
		return t, ops.Errorf(ops.Invalid, "the service is missing: say which service the target belongs to")
	}
	if !ops.ValidName(string(t.Service)) {
		return t, ops.Errorf(ops.Invalid, "service %q is not a valid name: use letters, digits, dot, underscore and hyphen", t.Service)
	}
	if t.Instance != "" && !t.Instance.Valid() {
		return t, ops.Errorf(ops.Invalid, "instance id %q is not valid: use 4 to 40 of a-z, 0-9 and hyphen", clip(string(t.Instance)))
	}
	if t.URL == "" && (t.Instance != "" || t.Pod != "") {
		return t, checkLabels(t.Labels)
	}
	u, err := url.Parse(t.URL)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the URL, which may hold a password
		}
		return t, ops.Errorf(ops.Invalid, "the URL cannot be read: %w", err)
	}
	switch u.Scheme {
	case "http", "https":
		if u.Path = strings.TrimRight(u.Path, "/"); u.Path == "" {
			u.Path = DefaultPprofPath
		}
	case "grpc", "grpcs":
		if u.Port() == "" {
			return t, ops.Errorf(ops.Invalid, "URL %q has no port: write %s://host:port", u.Redacted(), u.Scheme)
		}
		if u.Path != "" && u.Path != "/" {
			return t, ops.Errorf(ops.Invalid, "URL %q has a path, which an agent has not: write %s://host:port", u.Redacted(), u.Scheme)
		}
		u.Path = ""
	default:
		return t, ops.Errorf(ops.Invalid, "URL %q has no known scheme: write http(s)://host:port%s for a pprof endpoint or grpc(s)://host:port for an agent", u.Redacted(), DefaultPprofPath)
	}
	switch {
	case u.Hostname() == "":
		return t, ops.Errorf(ops.Invalid, "URL %q has no host: write %s://host:port", u.Redacted(), u.Scheme)
	case u.RawQuery != "" || u.Fragment != "":
		return t, ops.Errorf(ops.Invalid, "URL %q has a query or fragment: write only %s://host:port and, for pprof, the path", u.Redacted(), u.Scheme)
	}
	t.URL = u.String()
	return t, checkLabels(t.Labels)
}

func checkLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return ops.Errorf(ops.Invalid, "%d labels are too many: use at most %d", len(labels), MaxLabels)
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if k == "" || len(k) > MaxLabelName || len(labels[k]) > MaxLabelValue {
			return ops.Errorf(ops.Invalid, "label %q is too long or has no name: use a name of 1 to %d bytes and a value of at most %d", clip(k), MaxLabelName, MaxLabelValue)
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("%.40s…", s)
	}
	return s
}
