// Package demo runs the whole game on one machine: the centre, a database, the
// services and the crowd, each a process of its own, and ends them in order. It
// knows how processes are started, not what they do.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/examples/colorgame/internal/pod"
	"github.com/opscenter/opscenter/examples/colorgame/internal/postgres"
	"github.com/opscenter/opscenter/examples/colorgame/internal/scenario"
)

// Project is what the game is called in the centre.
const Project = "color-game"

// Config of a demo. Only Self is needed.
type Config struct {
	// Self is the path of the colorgame program.
	Self string
	// Ops is the path of the built centre; empty = it is built from the sources of
	// the module around the working directory.
	Ops string
	// Center is the URL of a centre that runs already; empty = one is started.
	Center string
	// Listen is the address of the centre that is started; empty = 127.0.0.1:8080,
	// or a free port if that is taken.
	Listen string
	// Data is the directory of the centre that is started; empty = ./ops-data, or
	// one of its own where another program has the default address: that is
	// most likely a centre, which keeps ./ops-data for itself.
	Data string
	// Database is the URL of a Postgres database; empty = a throwaway cluster.
	Database string
	// Scenario is switched on from the start; 0 = none.
	Scenario scenario.Scenario
	// Players is how many play; 0 = the robot's default.
	Players int
	// StackFile is where the demo says what it runs; empty = DefaultStackFile.
	StackFile string
	// Out is where it tells people; nil = nowhere.
	Out io.Writer
}

// Run runs the demo until ctx ends, and returns when everything it started has
// ended and nothing is left behind but the centre's data.
//
// It ends in this order: the crowd; the services; the centre; the database.
func Run(ctx context.Context, cfg Config) (err error) {
	if cfg.Out == nil {
		cfg.Out = io.Discard
	}
	if cfg.StackFile == "" {
		cfg.StackFile = DefaultStackFile()
	}
	d := &demo{cfg: cfg}
	if old, err := ReadStack(cfg.StackFile); err == nil && old.alive(ctx) {
		return fmt.Errorf("a demo is already running (centre %s, see %s): end it first, or give this one its own --stack", old.Center, cfg.StackFile)
	}
	if d.dir, err = os.MkdirTemp("", "colorgame-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir), d.forget()) }()

	if cfg.Database == "" {
		d.say("Starting a throwaway PostgreSQL …")
		cluster, err := postgres.Start(ctx)
		switch {
		case err == nil:
			defer func() {
				if err := cluster.Close(); err != nil {
					d.say("ending the database: %v", err)
				}
			}()
			d.cfg.Database = cluster.URL
			watch, stopWatching := context.WithCancel(ctx)
			var watching sync.WaitGroup
			watching.Go(func() {
				select {
				case <-cluster.Ended():
					d.say("The database ended by itself: scenarios 2, 4 and 6 need a new demo, everything else goes on.")
				case <-watch.Done():
				}
			})
			defer watching.Wait()
			defer stopWatching()
		case ctx.Err() != nil:
			return nil
		default:
			d.say("The game runs without a database, and so without scenarios 2, 4 and 6: %v", err)
		}
	}
	if d.cfg.Database != "" {
		if err := postgres.Migrate(ctx, d.cfg.Database); err != nil {
			return err
		}
	}
	return d.run(ctx)
}

type demo struct {
	cfg Config
	dir string // temporary: logs, programs

	mu      sync.Mutex // guards stack, and orders what is said and written
	stack   Stack
	written bool
}

func (d *demo) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.cfg.Out, format+"\n", args...)
}

// run plans the processes and keeps them until ctx ends.
func (d *demo) run(ctx context.Context) error {
	addrs, err := freeAddresses(10)
	if err != nil {
		return err
	}
	api := map[string]string{}
	admin := map[string]string{}
	for i, name := range []string{"user-service", "gateway-service", "game-service", "game-record-service", "robot"} {
		api[name], admin[name] = addrs[2*i], addrs[2*i+1]
	}
	d.stack = Stack{Project: Project, Center: d.cfg.Center, Database: d.cfg.Database != ""}

	var center []*child
	if d.cfg.Center == "" {
		c, err := d.center(ctx, admin["robot"])
		if err != nil {
			return err
		}
		center = append(center, c)
		d.stack.Center = c.API
	}
	service := func(name string, env []string, args ...string) *child {
		args = append([]string{d.cfg.Self, name, "--listen", api[name], "--admin", admin[name], "--center", d.stack.Center}, args...)
		if d.cfg.Scenario != 0 {
			args = append(args, "--fault", strconv.Itoa(int(d.cfg.Scenario)))
		}
		return &child{failed: make(chan struct{}),
			Process: Process{Name: name, API: "http://" + api[name], Admin: "http://" + admin[name], Log: d.log(name)},
			args:    args, stdin: true, env: append(env, "COLORGAME_DATABASE_URL="+d.cfg.Database),
			health: "http://" + admin[name] + "/admin/state",
		}
	}
	at := func(name string) string { return "http://" + api[name] }
	players := strconv.Itoa(d.cfg.Players)
	// The user-service has one core, as a small pod does: that is what a login
	// storm fills.
	services := []*child{
		service("user-service", []string{"GOMAXPROCS=1"}, "--players", players),
		service("gateway-service", nil, "--users", at("user-service")),
	}
	if d.cfg.Scenario == scenario.Hoarding {
		// Only then: a limit changes what is said of every other trouble of the gateway.
		limit := pod.New(fmt.Sprintf("colorgame-%d", os.Getpid()), gatewayMemory)
		defer func() {
			if err := limit.Close(); err != nil {
				d.say("removing the gateway's control group: %v", err)
			}
		}()
		if !limit.Real() {
			d.say("No control group can be made here: the gateway ends itself at its memory limit, as the kernel would.")
		}
		services[1].pod, d.stack.Limited = limit, true
	}
	game := []string{"--gateway", at("gateway-service")}
	if d.stack.Database {
		services = append(services, service("game-record-service", nil))
		game = append(game, "--records", at("game-record-service"))
	}
	services = append(services, service("game-service", nil, game...))
	robot := service("robot", nil, "--players", players, "--users", at("user-service"), "--game", at("game-service"), "--gateway", at("gateway-service"))
	robot.API = ""

	for _, c := range append(append(append([]*child{}, center...), services...), robot) {
		d.stack.Processes = append(d.stack.Processes, c.Process)
	}
	layers := [][]*child{center, services, {robot}}
	return d.keep(ctx, layers)
}

// gatewayMemory takes scenario 7 a minute and a half to fill.
const gatewayMemory = 768 << 20

// keep starts the layers one after the other, each when the one before answers,
// and ends them in the opposite order.
func (d *demo) keep(ctx context.Context, layers [][]*child) error {
	type running struct {
		end  context.CancelFunc
		wait func()
	}
	var started []running
	defer func() {
		for i := len(started) - 1; i >= 0; i-- {
			started[i].end()
			started[i].wait()
		}
	}()
	for _, layer := range layers {
		lctx, end := context.WithCancel(context.WithoutCancel(ctx))
		var wg sync.WaitGroup
		started = append(started, running{end, wg.Wait})
		for _, c := range layer {
			wg.Go(func() { c.run(lctx, d.say, func(pid int) { d.changed(c.Name, pid) }) })
		}
		var g errgroup.Group
		for _, c := range layer {
			g.Go(func() error { return c.ready(ctx) })
		}
		if err := g.Wait(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	d.greet()
	<-ctx.Done()
	d.say("Ending …")
	return nil
}

// changed notes that a process has started (or, with 0, ended) and rewrites the
// stack file.
func (d *demo) changed(name string, pid int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.stack.Processes {
		if d.stack.Processes[i].Name == name {
			d.stack.Processes[i].PID = pid
		}
	}
	if err := d.stack.write(d.cfg.StackFile); err != nil {
		fmt.Fprintf(d.cfg.Out, "%s could not be written, so `colorgame fault` will not find this demo: %v\n", d.cfg.StackFile, err)
		return
	}
	d.written = true
}

// forget removes the stack file.
func (d *demo) forget() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.written {
		return nil
	}
	return os.Remove(d.cfg.StackFile)
}

func (d *demo) log(name string) string { return filepath.Join(d.dir, name+".log") }

// center plans the centre's process, building its program if need be.
func (d *demo) center(ctx context.Context, robotAdmin string) (*child, error) {
	program := d.cfg.Ops
	if program == "" {
		root, err := moduleRoot(ctx)
		if err != nil {
			return nil, err
		}
		program = filepath.Join(d.dir, "ops")
		d.say("Building the centre …")
		build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/ops")
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building the centre: %w\n%s", err, out)
		}
	}
	listen, err := d.listen()
	if err != nil {
		return nil, err
	}
	data := d.data(listen)
	return &child{failed: make(chan struct{}),
		Process: Process{Name: "ops", API: "http://" + listen, Log: d.log("ops")},
		// The crowd is no service of ours and has no agent: it shows what a bare
		// net/http/pprof address is good for.
		args: []string{program, "serve", "--listen", listen, "--data", data,
			"--target", Project + "/robot=http://" + robotAdmin + "/debug/pprof"},
		health: "http://" + listen + "/",
	}, nil
}

const defaultListen = "127.0.0.1:8080"

// listen chooses the centre's address.
func (d *demo) listen() (string, error) {
	if d.cfg.Listen != "" {
		return d.cfg.Listen, nil
	}
	l, err := net.Listen("tcp", defaultListen)
	if err == nil {
		return defaultListen, l.Close()
	}
	addrs, err := freeAddresses(1)
	if err != nil {
		return "", err
	}
	d.say("%s is taken by another program: the centre uses %s.", defaultListen, addrs[0])
	return addrs[0], nil
}

// data chooses the centre's directory.
func (d *demo) data(listen string) string {
	switch {
	case d.cfg.Data != "":
		return d.cfg.Data
	case d.cfg.Listen == "" && listen != defaultListen:
		d.say("Its captures are kept in ./%s.", secondData)
		return secondData
	}
	return "ops-data"
}

// secondData is where the captures go beside a centre that runs already.
const secondData = "ops-data-demo"

// moduleRoot is the directory of the module we are in.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the sources of the centre: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	if _, err := os.Stat(filepath.Join(root, "cmd", "ops", "main.go")); err != nil {
		return "", errors.New("the sources of the centre are not here: run this within the project, or name a built program with --ops")
	}
	return root, nil
}

// alive reports whether the demo of the file still runs.
func (s Stack) alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, p := range s.Processes {
		if p.Admin == "" {
			continue
		}
		if err := call(ctx, http.MethodGet, p.Admin+"/admin/state", nil); err == nil {
			return true
		}
	}
	return false
}

// greet says what there is to open and to try.
func (d *demo) greet() {
	var b strings.Builder
	fmt.Fprintf(&b, "\nThe Color Game is running.\n\n")
	fmt.Fprintf(&b, "  Open     %s   (project %s)\n\n", d.stack.Center, Project)
	for _, p := range d.stack.Processes {
		if p.Admin != "" {
			fmt.Fprintf(&b, "  %-20s figures %s/admin/state   pprof %s/debug/pprof/\n", p.Name, p.Admin, p.Admin)
		}
	}
	server := ""
	if u, err := url.Parse(d.stack.Center); err == nil && u.Host != defaultListen {
		server = " --server " + d.stack.Center
	}
	fmt.Fprintf(&b, "\n  Trouble on and off, in another terminal:  go run ./examples/colorgame fault NUMBER on|off\n\n")
	for _, sc := range scenario.All() {
		if sc.NeedsDatabase() && !d.stack.Database {
			fmt.Fprintf(&b, "    %d  needs a database\n", int(sc))
			continue
		}
		if sc == scenario.Hoarding && !d.stack.Limited {
			fmt.Fprintf(&b, "    %d  needs a memory limit from the start: make demo SCENARIO=7\n", int(sc))
			continue
		}
		mark := " "
		if sc == d.cfg.Scenario {
			mark = "*"
		}
		fmt.Fprintf(&b, "   %s%d  %-56s go run ./cmd/ops capture %s -d 10s%s\n", mark, int(sc), sc.Symptom(), sc.Service(), server)
	}
	if d.cfg.Scenario != 0 {
		fmt.Fprintf(&b, "\n  * is on now.\n")
	}
	fmt.Fprintf(&b, "\n  How to read what you capture: docs/guide/. Logs: %s. Ctrl-C ends everything.\n", d.dir)
	d.say("%s", b.String())
}
