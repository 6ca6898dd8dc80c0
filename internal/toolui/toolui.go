// Package toolui shows profiles in pprof's web UI and execution traces in the
// viewer of `go tool trace`, many at once, under the centre's own URLs. Foreign
// bytes are parsed in child processes with memory limits, and what the two tools
// would show or do beyond the artifact they were given is out of reach. It knows
// nothing of fleets and captures: whoever makes it says how to open an artifact.
package toolui

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// Config is what a UI is made of. Only Open is needed.
type Config struct {
	// Open opens an artifact; NotFound if there is none. It may be called
	// concurrently.
	Open func(context.Context, ops.ArtifactRef) (ops.Blob, ops.Artifact, error)
	// BasePath is where the centre is mounted, "/ops"; empty = the root. Requests
	// may arrive with or without it.
	BasePath string
	// Dir keeps the trace viewer that was built, and what is open; empty = a
	// temporary directory. What was open there before is deleted.
	Dir string
	// TraceViewer is a binary of cmd/trace; empty = that of the Go toolchain on
	// this host, built on first use if need be.
	TraceViewer string
	// Child is the command that runs ChildMain; empty = this executable with
	// ChildVerb.
	Child []string

	// MaxProfiles is how many profiles are open at once; the least recently used
	// gives way. 0 = 20.
	MaxProfiles int
	// MaxTraces is how many trace windows are open at once; 0 = 3.
	MaxTraces int
	// IdleAfter closes what nobody has looked at for so long; 0 = 15 min.
	IdleAfter time.Duration
	// ProfileMemory caps each of the children that read and show profiles; 0 =
	// 1 GiB.
	ProfileMemory int64
	// TraceMemory caps each trace viewer, which takes about a hundred times the
	// size of its window; 0 = 4 GiB, or so much that MaxTraces of them fit into the
	// host's memory if that is less.
	TraceMemory int64
	// Timeout is how long a child may take for one thing that it was asked; 0 =
	// a minute.
	Timeout time.Duration

	Logger *slog.Logger // nil = silent
}

// ChildVerb is the first argument of a process that runs ChildMain.
const ChildVerb = "tool-ui-child"

// childEnv marks our children, so that a program that does not know ChildVerb,
// such as a test binary without the hook, cannot start itself for ever.
const childEnv = "OPS_TOOL_UI_CHILD"

// windowBytes is the size up to which generations of a trace are opened
// together, and maxWindowBytes what may be asked for.
const (
	windowBytes    = 10 << 20
	maxWindowBytes = 20 << 20
)

// UI serves
//
//	/pprof/{capture}/{instance}/{artifact}/…
//	/pprof/{capture}/{instance}/{artifact}/vs/{capture}/{instance}/{artifact}/…
//	/trace/{capture}/{instance}/{artifact}/
//	/trace/{capture}/{instance}/{artifact}/{from}-{to}/…
//
// where from and to are generations of a trace. Pages link relatively, so that
// they work behind any proxy.
type UI struct {
	cfg      Config
	log      *slog.Logger
	spawner  *spawner
	viewer   *viewer
	profiles *profileSessions
	traces   *traceSessions
	tool     *traceTool

	mu      sync.Mutex // guards the fields below
	running context.Context
	scratch string         // private directory while Run runs
	work    sync.WaitGroup // what Run waits for
}

// New returns a UI, which serves while Run runs.
func New(cfg Config) (*UI, error) {
	if cfg.Open == nil {
		return nil, errors.New("toolui: Config.Open is missing")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Child) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this executable: %w", err)
		}
		cfg.Child = []string{self, ChildVerb}
	}
	if cfg.MaxProfiles <= 0 {
		cfg.MaxProfiles = 20
	}
	if cfg.MaxTraces <= 0 {
		cfg.MaxTraces = 3
	}
	if cfg.IdleAfter <= 0 {
		cfg.IdleAfter = 15 * time.Minute
	}
	if cfg.ProfileMemory <= 0 {
		cfg.ProfileMemory = 1 << 30
	}
	if cfg.TraceMemory <= 0 {
		cfg.TraceMemory = 4 << 30
		if total := hostMemory(); total > 0 {
			cfg.TraceMemory = min(cfg.TraceMemory, total/int64(cfg.MaxTraces))
		}
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = time.Minute
	}
	cfg.BasePath = strings.TrimRight(cfg.BasePath, "/")
	u := &UI{cfg: cfg, log: cfg.Logger, spawner: newSpawner()}
	u.viewer = newViewer(u)
	u.profiles = newProfileSessions(u)
	u.traces = newTraceSessions(u)
	u.tool = newTraceTool(u)
	return u, nil
}

// Run serves until ctx ends, and returns when every child has ended and what
// they left behind is deleted.
func (u *UI) Run(ctx context.Context) error {
	scratch, remove, err := u.makeScratch()
	if err != nil {
		return fmt.Errorf("prepare the tool UIs: %w", err)
	}
	defer remove()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var spawning sync.WaitGroup
	stopSpawner := make(chan struct{})
	spawning.Go(func() { u.spawner.run(stopSpawner) })

	u.mu.Lock()
	u.running, u.scratch = ctx, scratch
	u.mu.Unlock()

	tick := time.NewTicker(min(u.cfg.IdleAfter/4+1, 30*time.Second))
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case now := <-tick.C:
			u.profiles.closeIdle(now.Add(-u.cfg.IdleAfter))
			u.traces.closeIdle(now.Add(-u.cfg.IdleAfter))
		}
	}

	u.mu.Lock()
	u.running = nil
	u.mu.Unlock()
	u.profiles.closeAll()
	u.traces.closeAll()
	u.viewer.stop()
	u.work.Wait()
	close(stopSpawner)
	spawning.Wait()
	return nil
}

// goRun runs fn in a goroutine that Run waits for; false if Run does not run.
func (u *UI) goRun(fn func(context.Context)) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.running == nil {
		return false
	}
	ctx := u.running
	u.work.Go(func() { fn(ctx) })
	return true
}

// scratchDir is there again if somebody tidied it away; whoever writes into it
// tells why if it cannot be.
func (u *UI) scratchDir() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.scratch != "" {
		_ = os.MkdirAll(u.scratch, 0o700)
	}
	return u.scratch
}

// makeScratch returns an empty private directory within Dir.
func (u *UI) makeScratch() (dir string, remove func(), err error) {
	if u.cfg.Dir == "" {
		if dir, err = os.MkdirTemp("", "ops-tool-ui-"); err != nil {
			return "", nil, err
		}
	} else {
		if dir, err = filepath.Abs(filepath.Join(u.cfg.Dir, "tool-ui-open")); err != nil {
			return "", nil, err
		}
		if err := os.RemoveAll(dir); err != nil {
			return "", nil, err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", nil, err
		}
	}
	return dir, func() {
		if err := os.RemoveAll(dir); err != nil {
			u.log.Warn("what was open in the tool UIs was not deleted", "dir", dir, "err", err)
		}
	}, nil
}

// Problems says in words what keeps traces, and the graph view of profiles, from
// being shown on this host, and what to do about it; empty = nothing.
func (u *UI) Problems() (trace, graph string) {
	return u.tool.problem(), graphProblem()
}

func graphProblem() string {
	if _, err := exec.LookPath("dot"); err == nil {
		return ""
	}
	return "The graph view needs Graphviz, which is not installed on the centre's host: install it there (apt-get install graphviz, dnf install graphviz, brew install graphviz) and reload. Flame graph, top and peek work without it."
}

// TraceWindow is a stretch of a trace that the viewer opens whole.
type TraceWindow struct {
	FromGeneration, ToGeneration uint64
	Start, Length                time.Duration
	SizeBytes                    int64
}

// TraceWindows lists the windows of a trace in order of time, and says in words
// what could not be read of it; empty = all was.
func (u *UI) TraceWindows(ctx context.Context, ref ops.ArtifactRef) (windows []TraceWindow, loss string, err error) {
	blob, _, err := u.open(ctx, ref)
	if err != nil {
		return nil, "", err
	}
	defer blob.Close()
	ix, err := trace.ReadIndex(blob, blob.Size())
	if err != nil {
		return nil, "", err
	}
	for _, w := range ix.Windows(windowBytes) {
		windows = append(windows, TraceWindow{FromGeneration: w.From, ToGeneration: w.To, Start: w.Start, Length: w.End - w.Start, SizeBytes: w.SizeBytes})
	}
	if ix.Loss != nil {
		loss = ix.Loss.Message
	}
	return windows, loss, nil
}

func (u *UI) open(ctx context.Context, ref ops.ArtifactRef) (ops.Blob, ops.Artifact, error) {
	if !ref.Valid() {
		return nil, ops.Artifact{}, ops.Errorf(ops.NotFound, "there is no such artifact: open it from its capture's page")
	}
	return u.cfg.Open(ctx, ref)
}

// ServeHTTP serves the pages of both tools.
func (u *UI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", pageCSP)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		showError(w, r, http.StatusMethodNotAllowed, "Not like this", "These pages only show things: open them with GET.")
		return
	}
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, u.cfg.BasePath+"/"); ok && u.cfg.BasePath != "" {
		path = "/" + rest
	}
	at := strings.Split(strings.TrimPrefix(path, "/"), "/")
	switch {
	case len(at) >= 4 && at[0] == "pprof":
		u.serveProfile(w, r, at[1:])
	case len(at) >= 4 && at[0] == "trace":
		u.serveTrace(w, r, at[1:])
	default:
		showError(w, r, http.StatusNotFound, "Nothing here", "Open profiles and traces from their capture's page.")
	}
}

// refOf makes a reference of three path segments.
func refOf(at []string) ops.ArtifactRef {
	return ops.ArtifactRef{Capture: ops.CaptureID(at[0]), Instance: ops.InstanceID(at[1]), Name: at[2]}
}

// redirect goes to a relative address; http.Redirect would make it absolute,
// which breaks behind a proxy that takes a prefix away.
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusFound)
}

func withQuery(path string, r *http.Request) string {
	if r.URL.RawQuery == "" {
		return path
	}
	return path + "?" + r.URL.RawQuery
}
