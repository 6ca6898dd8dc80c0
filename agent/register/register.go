// Package register enters a service into a registry (etcd, Consul, Nacos) for
// platforms where services register themselves, and takes it out again when it
// ends.
//
//	registry, err := etcd.New(etcd.Config{Endpoints: []string{"10.0.0.1:2379"}})
//	…
//	r, err := register.Start(a, register.Config{Registry: registry, Address: ":6060"})
//	…
//	defer r.Close()
//
// Like the agent it is a guest: it starts one goroutine, is bounded in everything
// it does, never ends the process and is silent without a logger. A registry that
// is away is tried again; one that has lost the entry gets it again.
//
// It must know nothing of any one registry, and imports nothing that the agent
// does not.
package register

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	ossignal "os/signal"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// Registry is where services are entered: what the packages below make.
type Registry interface {
	// Server is host:port of the registry, for messages and for the address that
	// this host has on the way there.
	Server() string
	// Enter makes the entry be there for at least ttl. It may be there already.
	Enter(ctx context.Context, e Entry, ttl time.Duration) error
	// Keep renews what Enter made. Any error makes the caller enter it again.
	Keep(ctx context.Context, e Entry, ttl time.Duration) error
	// Remove takes the entry out.
	Remove(ctx context.Context, e Entry) error
}

// Entry is what a registry is told.
type Entry struct {
	Project, Service string
	// ID is unique among all entries: the boot id of the agent.
	ID   string
	Host string
	Port int
	// Meta is what the centre's sources read (ops_project, ops_instance, ops_scheme)
	// and what else the service wants to say.
	Meta map[string]string
}

// Address is host:port.
func (e Entry) Address() string { return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) }

// Config says what is registered, and where.
type Config struct {
	Registry Registry
	// Address is host:port where the service is found. Without a host (":6060") it
	// is the address that this host has on the way to the registry.
	Address string
	// Scheme is what answers there: http or https for net/http/pprof, grpc or grpcs
	// for the agent on the service's gRPC server. Empty = whatever the centre's
	// source is configured for.
	Scheme string
	// PprofPort is where net/http/pprof is served when Address is that of the
	// service itself. 0 = it is not said.
	PprofPort int
	// Meta is added to the agent's labels and wins over them.
	Meta map[string]string
	// TTL is how long the entry stays after a process that died. 0 = 15 s; at least
	// one second.
	TTL time.Duration
	// Signal takes the entry out on SIGTERM as well. Only for programs without a
	// handler of their own, whom the signal then ends as ever; others call Close.
	Signal bool
	// Logger takes what an operator may want to know; nil = silence.
	Logger *slog.Logger
}

const (
	defaultTTL = 15 * time.Second
	// callWithin bounds one call to the registry, closeWithin the whole of Close.
	callWithin  = 5 * time.Second
	closeWithin = 3 * time.Second
	firstPause  = 500 * time.Millisecond
	lastPause   = 30 * time.Second
)

var errNotYet = errors.New("register: the registry has not answered yet")

// A registry's names for services are at least this strict.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// Registration keeps one entry. A nil Registration is off.
type Registration struct {
	cfg    Config
	entry  Entry
	log    *slog.Logger
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex // guards all below
	problem error      // nil = the entry is there
}

// Start enters the process that a is the agent of, and returns at once: the
// registry need not be there. It returns nil and no error when the agent is off
// (nil), and an error only for a configuration that cannot be right.
func Start(a *agent.Agent, c Config) (*Registration, error) {
	if a == nil {
		return nil, nil
	}
	return startAs(a.Self(), c)
}

func startAs(self agent.Self, c Config) (*Registration, error) {
	e, err := c.entry(self)
	if err != nil {
		return nil, err
	}
	c.TTL = cmp.Or(c.TTL, defaultTTL)
	ctx, cancel := context.WithCancel(context.Background())
	r := &Registration{cfg: c, entry: e, log: c.Logger, cancel: cancel, ended: make(chan struct{}), problem: errNotYet}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	go r.run(ctx)
	return r, nil
}

// entry checks the configuration; only the host may still be open.
func (c Config) entry(self agent.Self) (Entry, error) {
	if c.Registry == nil {
		return Entry{}, errors.New("register: no Registry: make one with the package of your registry, such as agent/register/etcd")
	}
	host, p, err := net.SplitHostPort(c.Address)
	port, portErr := strconv.Atoi(p)
	if err != nil || portErr != nil || port < 1 || port > 65535 {
		return Entry{}, fmt.Errorf("register: address %q is none: use host:port, or :port for this host's own", c.Address)
	}
	switch c.Scheme {
	case "", "http", "https", "grpc", "grpcs":
	default:
		return Entry{}, fmt.Errorf("register: scheme %q is none: use http, https, grpc or grpcs", c.Scheme)
	}
	switch {
	case c.PprofPort < 0 || c.PprofPort > 65535:
		return Entry{}, fmt.Errorf("register: pprof port %d is none: use 1 to 65535", c.PprofPort)
	case c.TTL != 0 && c.TTL < time.Second:
		return Entry{}, fmt.Errorf("register: TTL %v is too short: use at least 1s", c.TTL)
	case !namePattern.MatchString(self.Service) || !namePattern.MatchString(self.Project):
		return Entry{}, fmt.Errorf("register: %q of project %q is no name", self.Service, self.Project)
	}
	meta := maps.Clone(self.Labels)
	if meta == nil {
		meta = map[string]string{}
	}
	maps.Copy(meta, c.Meta)
	meta["ops_project"], meta["ops_instance"] = self.Project, self.BootID
	if c.Scheme != "" {
		meta["ops_scheme"] = c.Scheme
	}
	if c.PprofPort != 0 {
		meta["ops_pprof_port"] = strconv.Itoa(c.PprofPort)
	}
	return Entry{Project: self.Project, Service: self.Service, ID: self.BootID, Host: host, Port: port, Meta: meta}, nil
}

// Problem is why the entry may not be there; nil = it is, as far as is known.
func (r *Registration) Problem() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem
}

// Close takes the entry out, for which it waits at most three seconds: one that
// cannot be taken out ends with its TTL. It may be called again.
func (r *Registration) Close() error {
	if r == nil {
		return nil
	}
	r.cancel()
	<-r.ended
	return nil
}

// run keeps the entry until ctx ends, and takes it out.
func (r *Registration) run(ctx context.Context) {
	defer close(r.ended)
	defer r.survive()
	var signals chan os.Signal
	if r.cfg.Signal {
		signals = make(chan os.Signal, 1)
		ossignal.Notify(signals, endSignals()...)
		defer ossignal.Stop(signals)
	}
	s := r.keep(ctx, signals)
	r.leave()
	if s != nil {
		ossignal.Stop(signals)
		raise(s)
	}
}

// keep enters and renews until ctx ends or a signal comes, which it returns.
func (r *Registration) keep(ctx context.Context, signals <-chan os.Signal) os.Signal {
	calls, cancel := context.WithCancel(ctx)
	defer cancel()
	there, pause := false, firstPause
	for {
		done := make(chan error, 1)
		go func() {
			defer r.survive()
			err := errors.New("it broke off")
			defer func() { done <- err }()
			err = r.call(calls, there)
		}()
		var err error
		select {
		case err = <-done:
		case s := <-signals:
			cancel()
			<-done
			return s
		}
		if ctx.Err() != nil {
			return nil
		}
		r.note(err)
		wait := r.cfg.TTL / 3
		switch {
		case err == nil:
			there, pause = true, firstPause
		case there: // entered again soon: it may be what is missing
			there, wait = false, pause/2+rand.N(pause/2)
		default:
			wait, pause = pause/2+rand.N(pause/2), min(2*pause, lastPause)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case s := <-signals:
			timer.Stop()
			return s
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

func (r *Registration) call(ctx context.Context, there bool) error {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	if there {
		return r.cfg.Registry.Keep(ctx, r.entry, r.cfg.TTL)
	}
	if r.entry.Host == "" {
		host, err := ownAddress(ctx, r.cfg.Registry.Server())
		if err != nil {
			return err
		}
		r.entry.Host = host
	}
	return r.cfg.Registry.Enter(ctx, r.entry, r.cfg.TTL)
}

// ownAddress is what this host is called by on the way to server; nothing is sent.
func ownAddress(ctx context.Context, server string) (string, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", server)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	return host, err
}

// note logs what changes, once.
func (r *Registration) note(err error) {
	r.mu.Lock()
	before := r.problem
	r.problem = err
	r.mu.Unlock()
	switch {
	case err == nil && before != nil:
		r.log.Info("the service is registered", "service", r.entry.Service, "address", r.entry.Address(), "registry", r.cfg.Registry.Server())
	case err != nil && (before == nil || before.Error() != err.Error()):
		r.log.Warn("the service cannot be registered: it is tried again", "service", r.entry.Service, "registry", r.cfg.Registry.Server(), "error", err)
	}
}

// leave takes the entry out, also where it is not known to be in: an answer may
// have been lost.
func (r *Registration) leave() {
	if r.entry.Host == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	if err := r.cfg.Registry.Remove(ctx, r.entry); err != nil {
		r.log.Warn("the service could not be taken out of the registry: its entry ends by itself", "service", r.entry.Service, "error", err)
	}
}

func (r *Registration) survive() {
	if p := recover(); p != nil {
		r.log.Error("the registration recovered from a panic", "panic", fmt.Sprint(p))
	}
}
