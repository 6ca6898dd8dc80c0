package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/internal/agentless"
	"github.com/opscenter/opscenter/internal/agentlink"
	"github.com/opscenter/opscenter/internal/api"
	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/archive/localblob"
	"github.com/opscenter/opscenter/internal/archive/sqlite"
	"github.com/opscenter/opscenter/internal/audit"
	auditsqlite "github.com/opscenter/opscenter/internal/audit/sqlite"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/census"
	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/console"
	"github.com/opscenter/opscenter/internal/console/desk"
	"github.com/opscenter/opscenter/internal/control"
	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/examine"
	"github.com/opscenter/opscenter/internal/flame"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/guard"
	"github.com/opscenter/opscenter/internal/guide"
	"github.com/opscenter/opscenter/internal/join"
	"github.com/opscenter/opscenter/internal/metrics"
	"github.com/opscenter/opscenter/internal/notify"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/project"
	"github.com/opscenter/opscenter/internal/rules"
	"github.com/opscenter/opscenter/internal/timeline"
	"github.com/opscenter/opscenter/internal/toolui"
)

// The centre's own process is an instance of this service.
const (
	selfProject = "ops-center"
	selfService = "ops-center"
)

// Serve runs a centre until ctx ends or a part of it cannot go on.
//
// It ends in this order: no new requests; running captures keep what they have
// (their links still work); links and sources; the fleet's last rows; the
// archive.
func Serve(ctx context.Context, o cli.ServeOptions) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	var sec sections
	if o.Load != nil {
		// Anew, because only here it is known what the sections are.
		loaded, err := o.Load(sec.list())
		if err != nil {
			return err
		}
		o.Config, o.Files, o.Seen = loaded.Config, loaded.Files, loaded.Seen
		o.Logger.Info("configuration", "file", cmp.Or(loaded.Config.File, "none: flags, environment and defaults"))
	}
	who, err := newAccess(ctx, o, sec.Access)
	if err != nil {
		return err
	}
	// The address is taken before the data is opened: a second centre on the same
	// port must not touch what the first one holds.
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return ops.Errorf(ops.Unavailable, "%w: another program, or another centre, has the port: stop it or choose another with --listen", err)
	}
	defer ln.Close()
	defer who.close() //nolint:errcheck // what was written is on the disk
	c, err := build(ctx, o, sec, who, ln.Addr())
	if err != nil {
		return err
	}
	defer c.close()
	return c.run(ctx, ln)
}

// center is the parts of a running centre.
type center struct {
	projects  project.Book
	reloader  *reloader
	log       *slog.Logger
	out       io.Writer
	url       string // for people and the CLI
	who       access
	agent     agent.Config
	catalogue *sqlite.Catalogue
	rows      *auditsqlite.Store // of the record
	record    *audit.Log
	rails     *guard.Rails
	ways      *console.Ways
	desk      *desk.Desk
	blobs     *localblob.Store
	links     *agentlink.Server
	gate      *join.Gate // nil = agents get no certificates
	archive   *archive.Archive
	fleet     *fleet.Fleet
	sources   *discovery.Manager
	captures  *capture.Engine
	rules     *rules.Center
	diagnoses *examine.Keeper
	notifier  *notify.Notifier
	metrics   *metrics.Metrics
	profiles  *flame.Reader
	timelines *timeline.Timelines
	tools     *toolui.UI
	handler   http.Handler
	broken    chan error // the archive's fail-stop
}

func build(ctx context.Context, o cli.ServeOptions, sec sections, who access, addr net.Addr) (_ *center, err error) {
	c := &center{log: o.Logger, out: o.Out, who: who, url: address(who, addr, o.BasePath), broken: make(chan error, 1)}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return nil, ops.Errorf(ops.Exhausted, "--data %s: %w", o.DataDir, err)
	}
	if err := writable(o.DataDir); err != nil {
		return nil, err
	}
	// On a full disk the database opens into the room that the ballast leaves.
	if err := archive.WithBallast(o.DataDir, func() (err error) {
		c.catalogue, err = sqlite.Open(ctx, filepath.Join(o.DataDir, "ops.db"))
		return err
	}); err != nil {
		return nil, err
	}
	if c.blobs, err = localblob.Open(localblob.Config{Dir: filepath.Join(o.DataDir, "blobs"), Logger: o.Logger}); err != nil {
		return nil, err
	}
	c.archive, err = archive.Open(ctx, archive.Config{
		Catalogue: c.catalogue, Blobs: c.blobs, Dir: o.DataDir,
		Retention: sec.Projects.retention(o),
		Reserve:   o.DiskReserveBytes, Logger: o.Logger, OnFailure: c.failStop,
	})
	if err != nil {
		return nil, err
	}
	// The archive has locked the directory: what another centre is doing must not
	// be declared unknown here.
	if err := archive.WithBallast(o.DataDir, func() (err error) {
		c.rows, err = auditsqlite.Open(ctx, o.DataDir)
		return err
	}); err != nil {
		return nil, err
	}
	if err := archive.WithBallast(o.DataDir, func() (err error) {
		c.record, err = audit.Open(ctx, audit.Config{
			Store: c.rows, Logger: o.Logger,
			Room: c.archive.ReleaseBallast,
		})
		return err
	}); err != nil {
		return nil, err
	}
	g, err := prepare(o, sec, nil)
	if err != nil {
		return nil, err
	}
	if who.accounts != nil {
		who.accounts.Record = c.record
		who.accounts.Declare(sec.Projects.grants())
	}
	c.projects.Declare(sec.Projects.declared(), o.UndeclaredProjects == cli.RefuseProjects, selfProject)
	c.rails = guard.New(c.record, g.policy)
	c.fleet = fleet.New(fleet.Config{Store: c.catalogue, Logger: o.Logger, Health: g.health, Admit: c.projects.Admit, HeartbeatEvery: o.Heartbeat, Short: c.tellShort, Expected: c.expectedBySources, Bounds: sec.Limits.Fleet})
	c.fleet.Expect(sec.Projects.expect())

	if err := c.fleet.Load(ctx); err != nil {
		return nil, err
	}

	c.links = agentlink.New(agentlink.Config{
		Fleet: c.fleet, Logger: o.Logger, Version: o.Version, Token: os.Getenv("OPS_AGENT_TOKEN"),
		Room:      c.fleet.Room,
		Authorize: func(r *http.Request) error { return who.auth.Authorize(auth.ActorOf(r.Context()), auth.Join) },
	})
	if c.gate, err = newGate(o, sec.Join, who, c.record, c.links); err != nil {
		return nil, err
	}
	endpoints := agentless.New(agentless.Config{Fleet: c.fleet, Logger: o.Logger})
	c.sources = discovery.NewManager(discovery.Config{
		Sources: g.sources, Logger: o.Logger, Dir: filepath.Join(o.DataDir, "discovery"), Awaited: c.fleet.Awaited,
		Connect: func(ctx context.Context, t ops.Target) error {
			if strings.HasPrefix(t.URL, "grpc") {
				return c.links.Connect(ctx, t)
			}
			return endpoints.Connect(ctx, t)
		},
	})

	c.captures = capture.New(capture.Config{
		Fleet: captureFleet{c.fleet}, Archive: c.archive, Limits: sec.Limits.Captures, Logger: o.Logger,
		Profiles: capture.Profiles{
			Merge: func(w io.Writer, in ...io.Reader) error { return profile.Merge(w, profile.Limits{}, in...) },
			Delta: func(w io.Writer, before, after io.Reader) error {
				return profile.Delta(w, profile.Limits{}, before, after)
			},
		},
	})
	c.diagnoses = examine.NewKeeper(examine.KeeperConfig{Archive: c.archive, Changed: c.captures.Subscribe, Said: c.captures.Touch, Told: c.tellOf, Logger: o.Logger})
	if c.notifier, err = newNotifier(o, g.channels, c.url); err != nil {
		return nil, err
	}
	c.metrics = c.newMetrics(o)
	if c.rules, err = rules.New(rules.Config{
		Fleet: ruleFleet{c.fleet}, Captures: c.captures, Headline: c.diagnoses.Headline,
		Dir: cmp.Or(o.RulesDir, filepath.Join(o.DataDir, "rules")), HistoryFile: filepath.Join(o.DataDir, "rules.jsonl"), Logger: o.Logger,
	}); err != nil {
		return nil, err
	}
	c.profiles = flame.New(flame.Config{Archive: c.archive})
	c.timelines = timeline.New(timeline.Config{Open: c.archive.OpenArtifact, Dir: filepath.Join(o.DataDir, "cache"), Room: c.archive.RoomFor, Logger: o.Logger})
	if c.tools, err = toolui.New(toolui.Config{
		Open: c.archive.OpenArtifact, BasePath: o.BasePath, Dir: filepath.Join(o.DataDir, "cache"),
		TraceViewer: o.TraceViewer, Logger: o.Logger,
	}); err != nil {
		return nil, err
	}

	c.ways = &console.Ways{Instance: c.fleet.Instance, Link: c.fleet.Link}
	c.desk = desk.New(desk.Config{Conns: c.ways, Instance: c.fleet.Instance, Rails: c.rails, Book: c.catalogue, Logger: o.Logger})

	forgetUploads(filepath.Join(o.DataDir, "cache"), o.Logger)
	started := time.Now()
	serves := api.Config{
		Fleet: c.fleet, Captures: auditedCaptures{c.captures, c.record, c.diagnoses}, Files: auditedFiles{c.archive, c.record, o.Logger},
		Auth: who.auth, Accounts: who.accounts, Refused: who.refused,
		Retention: c.archive.Retention, Projects: &c.projects, Configuration: func() api.ConfigState { return c.reloader.state() },
		SpoolDir: filepath.Join(o.DataDir, "cache"), Room: c.archive.RoomFor, Logger: o.Logger,
		Diagnosis: c.diagnoses.Findings, Headline: c.diagnoses.Headline,
		Profiles:  c.profiles,
		Timelines: c.timelines,
		Desk:      c.desk,
		Controls:  control.New(control.Config{Fleet: controlFleet{c.fleet}, Rails: c.rails, Logger: o.Logger}),
		Record:    c.record,
		Rules:     auditedRules{c.rules, c.record},
		Channels:  auditedChannels{c.notifier, c.record},
		TraceWindows: func(ctx context.Context, ref ops.ArtifactRef) ([]api.TraceWindow, string, error) {
			windows, loss, err := c.tools.TraceWindows(ctx, ref)
			out := make([]api.TraceWindow, len(windows))
			for i, w := range windows {
				out[i] = api.TraceWindow(w)
			}
			return out, loss, err
		},
		Goroutines: census.New(census.Config{Capture: c.captured, Open: c.archive.OpenArtifact}).Count,
		Runtime:    c.runtimeSeries,
		Sources:    c.sources,
		Guide:      guide.New(guideArchive{c}), Speedscope: c.speedscope,
		System: func(ctx context.Context) api.System { return c.system(ctx, o, started) },
	}
	behindGate := who
	if behindGate.auth, err = behind(c.gate, sec.Join, o, &who); err != nil {
		return nil, err
	}
	var joins http.Handler
	if c.gate != nil {
		joins, serves.Join, serves.JoinPin = c.gate, c.gate, who.pin()
	}
	c.handler = front(o, behindGate, parts{join: joins, calls: api.New(serves), tunnel: c.links, metrics: c.metrics.Handler(), tools: c.tools, login: who.pages, mayCapture: api.OfCapture(serves, auth.View)})

	c.reloader = &reloader{center: c, started: o.Config, current: g, loaded: started}

	// The centre watches itself like any other process: over the same tunnel.
	c.agent = agent.Config{
		Center: c.url, Project: selfProject, Service: selfService,
		TokenFile: cmp.Or(who.selfToken, o.TokenFile), CAPin: who.pin(), Logger: o.Logger.With("agent", "self"),
	}
	return c, nil
}

// writable says in words what the database would say with a number.
func writable(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "ops.db"), os.O_RDWR|os.O_CREATE, 0o600)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return ops.Errorf(ops.Denied, "--data %s cannot be written: %w: give the directory to the user that runs the centre, or choose another", dir, err)
	case err != nil:
		return nil //nolint:nilerr // a full disk is not the last word: there is the ballast
	}
	return f.Close()
}

// failStop ends the centre after an error of the disk or the database that it
// cannot judge: starting anew recovers, going on could lie.
func (c *center) failStop(err error) {
	select {
	case c.broken <- err:
	default:
	}
}

func (c *center) close() {
	var err error
	if c.desk != nil {
		err = errors.Join(c.desk.Close(), c.ways.Close())
	}
	if c.timelines != nil {
		err = errors.Join(err, c.timelines.Close())
	}
	if c.archive != nil {
		err = errors.Join(err, c.archive.Close())
	}
	if c.blobs != nil {
		err = errors.Join(err, c.blobs.Close())
	}
	if c.rows != nil {
		err = errors.Join(err, c.rows.Close())
	}
	if c.catalogue != nil {
		err = errors.Join(err, c.catalogue.Close())
	}
	if err != nil {
		c.log.Error("the archive did not close cleanly", "err", err)
	}
}

func (c *center) run(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Three circles, ended one after the other: requests, captures, everything else.
	base, endBase := context.WithCancel(context.WithoutCancel(ctx))
	defer endBase()
	serving, endServing := context.WithCancel(base)
	defer endServing()

	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler: c.handler, Protocols: protocols,
		BaseContext:       func(net.Listener) context.Context { return serving },
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250}, // of one connection
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	srv.TLSConfig = agentsTLS(c.who.tlsConfig())

	outer, octx := errgroup.WithContext(base)
	if c.who.accounts != nil {
		outer.Go(func() error { return named("accounts", c.who.accounts.Run(octx)) })
	}
	if c.gate != nil {
		outer.Go(func() error { return named("joining", c.gate.Run(octx)) })
	}
	outer.Go(func() error { return named("fleet", c.fleet.Run(octx)) })
	outer.Go(func() error { return named("archive", c.archive.Run(octx)) })
	outer.Go(func() error { return named("discovery", c.sources.Run(octx)) })
	outer.Go(func() error { return named("configuration", c.reloader.run(octx)) })
	outer.Go(func() error { return named("tool UIs", c.tools.Run(octx)) })
	outer.Go(func() error { return named("diagnoses", c.diagnoses.Run(octx)) })
	outer.Go(func() error { return named("rules", c.rules.Run(octx)) })
	outer.Go(func() error { return named("news of rules", c.tellOfRules(octx)) })
	outer.Go(func() error {
		var err error
		if c.who.certs != nil {
			err = srv.ServeTLS(ln, "", "")
		} else {
			err = srv.Serve(ln)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	})
	outer.Go(func() error { return named("profiles", c.profiles.Run(octx)) })
	outer.Go(func() error { return named("notifications", c.notifier.Run(octx)) })
	outer.Go(func() error { return named("metrics", c.metrics.Run(octx)) })
	outer.Go(func() error { return named("what the fleet tells", c.notifier.Watch(octx, c.fleet)) })
	inner, cctx := errgroup.WithContext(ctx)
	inner.Go(func() error { return named("captures", c.captures.Run(cctx)) })
	inner.Go(func() error {
		select {
		case <-cctx.Done():
			return nil
		case <-octx.Done():
			return errors.New("a part of the centre ended")
		case err := <-c.broken:
			return fmt.Errorf("the archive cannot go on, start the centre again to recover: %w", err)
		}
	})

	self, err := agent.Start(c.agent)
	if err != nil {
		c.log.Error("the centre cannot watch itself", "err", err)
	}
	fmt.Fprintf(c.out, "OPS Center is at %s\n", c.url)
	if c.who.ca != nil {
		fmt.Fprintf(c.out, "Its certificate authority is %s, and its pin, for agents (OPS_CA_PIN) and ops login --pin:\n%s\n", c.who.ca.File, c.who.pin())
	}
	c.log.Info("serving", "url", c.url, "pid", os.Getpid())

	innerErr := inner.Wait() // until asked to end, with captures put away
	said := c.fleet.Subscribe()
	if err := self.Close(); err != nil {
		c.log.Warn("the centre's own agent did not leave", "err", err)
	}
	c.hearGoodbye(base, said, ops.InstanceID(self.BootID()))
	said.Close()
	endServing() // ends streams, which Shutdown would wait for
	grace, done := context.WithTimeout(base, 5*time.Second)
	if err := srv.Shutdown(grace); err != nil {
		_ = srv.Close()
	}
	done()
	if err := c.links.Close(); err != nil {
		c.log.Warn("the agents' connections did not close cleanly", "err", err)
	}
	endBase()
	outerErr := outer.Wait()
	if outerErr != nil {
		return outerErr
	}
	return innerErr
}

// hearGoodbye waits for a moment until the fleet knows that an instance is gone:
// it learns of it from a connection, which is about to be closed.
func (c *center) hearGoodbye(ctx context.Context, said *changes.Subscription[ops.InstanceID], id ops.InstanceID) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for {
		if i, err := c.fleet.Instance(id); err != nil || i.State == ops.InstanceGone {
			return
		}
		if _, err := said.Next(ctx); err != nil {
			return
		}
	}
}

// named says which part ended with err; that it was asked to is no error.
func named(part string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", part, err)
}

// address is where this machine's people and programs find the centre.
func address(who access, addr net.Addr, basePath string) string {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if who.certs != nil {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + basePath
}

// orForever turns the command line's "0 = no bound" into the archive's.
func orForever[T time.Duration | int64](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// forgetUploads deletes what was on its way when a centre was killed: it is of
// use to nobody.
func forgetUploads(dir string, log *slog.Logger) {
	left, err := filepath.Glob(filepath.Join(dir, api.UploadPattern))
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		log.Warn("unfinished uploads were not deleted", "dir", dir, "err", err)
	}
}

// captureFleet shows the fleet as the capture engine sees it.
type captureFleet struct{ *fleet.Fleet }

func (f captureFleet) Instances(k ops.ServiceKey) []ops.Instance {
	return f.Fleet.Instances(fleet.Filter{Project: k.Project, Service: k.Service})
}

// ruleFleet shows it as the rules see it.
type ruleFleet struct{ *fleet.Fleet }

func (f ruleFleet) Instances() []ops.Instance { return f.Fleet.Instances(fleet.Filter{}) }

func (c *center) system(ctx context.Context, o cli.ServeOptions, started time.Time) api.System {
	stored := c.archive.Status(ctx)
	trace, graph := c.tools.Problems()
	return api.System{
		Version: o.Version, GoVersion: runtime.Version(), BasePath: o.BasePath, Started: started,
		Retention: max(stored.Retention.MaxAge, 0), RetentionBytes: max(stored.Retention.MaxBytes, 0),
		StoredBytes: stored.StoredBytes, FreeBytes: stored.FreeBytes, StorageProblem: stored.Problem,
		TraceProblem: trace, GraphProblem: graph,
	}
}
