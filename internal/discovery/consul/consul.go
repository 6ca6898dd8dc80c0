// Package consul is the discovery source of Consul's health API, asked with
// blocking queries: a change is known as soon as Consul knows it.
//
// A Consul that is away, or refuses, keeps what was said last.
package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// Config makes a Source.
type Config struct {
	// Address is an agent's or server's, host:port or https://host:port; empty =
	// 127.0.0.1:8500.
	Address string `yaml:"address"`
	// TokenFile holds the ACL token; empty = the anonymous one.
	TokenFile string `yaml:"token_file"`
	// Datacenter, Namespace and Partition to ask for; empty = the agent's own.
	Datacenter string `yaml:"datacenter"`
	Namespace  string `yaml:"namespace"`
	Partition  string `yaml:"partition"`
	// Services to list; empty = all that have all Tags.
	Services []string `yaml:"services"`
	Tags     []string `yaml:"tags"`
	// All lists instances whose checks do not pass as well, with what the check
	// says; else they are left out.
	All bool `yaml:"all"`
	// NoExpect takes it for no shortage that an instance is registered and away.
	NoExpect bool `yaml:"no_expect"`
	// TLS of an https address.
	TLS              discovery.TLS `yaml:"tls"`
	discovery.Naming `yaml:",inline"`
	// Logger tells what is wrong, once; nil = silent.
	Logger *slog.Logger `yaml:"-"`
}

const (
	defaultAddress = "127.0.0.1:8500"
	// holdFor is how long Consul may hold a query until there is something new. It
	// adds up to a sixteenth.
	holdFor      = time.Minute
	answerWithin = 10 * time.Second // beyond that
	// settle lets a burst of changes become one list.
	settle     = 50 * time.Millisecond
	firstPause = 500 * time.Millisecond
	lastPause  = 10 * time.Second
	// maxServices bounds the queries that are held at once: Consul lets 200
	// connections of one address in by default.
	maxServices = 150
	maxTargets  = 20_000
	// maxAnswerBytes is above what 20,000 instances of a service take.
	maxAnswerBytes = 64 << 20
	maxNote        = 200
)

// Validate says what cannot be, as an Invalid error that names the field.
func (c Config) Validate() error {
	scheme, host, ok := strings.Cut(c.Address, "://")
	if !ok {
		scheme, host = "http", cmp.Or(c.Address, defaultAddress)
	}
	_, _, err := net.SplitHostPort(host)
	switch {
	case err != nil || (scheme != "http" && scheme != "https") || strings.ContainsAny(host, "/?#@"):
		return ops.Errorf(ops.Invalid, "address: %q is none: write host:port or https://host:port", c.Address)
	case scheme == "http" && c.TLS != (discovery.TLS{}):
		return ops.Errorf(ops.Invalid, "tls: the address is not https: write it as https://host:port")
	case slices.Contains(c.Services, ""):
		return ops.Errorf(ops.Invalid, "services: a name is empty")
	case len(c.Services) > maxServices:
		return ops.Errorf(ops.Invalid, "services: %d are too many for one source: use at most %d", len(c.Services), maxServices)
	}
	if err := c.TLS.Validate(); err != nil {
		return err
	}
	return c.Naming.Validate()
}

// Source asks Consul.
type Source struct {
	*discovery.Trouble
	discovery.Counts
	cfg Config

	mu       sync.Mutex // guards all below
	services map[string][]ops.Target
	// registered is how many there are of each, whether they pass or not, by Consul's
	// name of the service.
	registered map[string]map[ops.ServiceKey]int
	odd        map[string]string // by service: instances that cannot be read
	failing    map[string]string // by query
	changed    chan struct{}     // holds a token when there is something to tell
}

// New checks the configuration. It asks nothing yet.
func New(cfg Config) (discovery.Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Address = cmp.Or(cfg.Address, defaultAddress)
	s := &Source{cfg: cfg, changed: make(chan struct{}, 1)}
	s.Trouble = discovery.NewTrouble(cfg.Logger, s.Name())
	return s, nil
}

// Name is "consul", the address and the datacenter.
func (s *Source) Name() string {
	return strings.TrimSpace("consul " + strings.TrimPrefix(strings.TrimPrefix(s.cfg.Address, "http://"), "https://") + " " + s.cfg.Datacenter)
}

// Run asks until ctx ends.
func (s *Source) Run(ctx context.Context, update func([]ops.Target)) error {
	client, done, err := s.connect()
	if err != nil {
		s.Set(err.Error())
		return err
	}
	defer done()
	s.mu.Lock()
	s.services, s.odd, s.failing = map[string][]ops.Target{}, map[string]string{}, map[string]string{}
	s.registered = map[string]map[ops.ServiceKey]int{}
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var queries sync.WaitGroup
	defer queries.Wait()
	defer cancel()
	w := &watches{s: s, client: client, wg: &queries, running: map[string]context.CancelFunc{}}
	if len(s.cfg.Services) > 0 {
		w.set(ctx, s.cfg.Services)
	} else {
		queries.Go(func() { s.follow(ctx, "the catalogue", w.catalogue(ctx)) })
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		}
		sleep(ctx, settle)
		if list, ok := s.list(w); ok && ctx.Err() == nil {
			update(list)
			if !s.cfg.NoExpect {
				s.SetExpected(s.expected(), "")
			}
		}
	}
}

// expected is how many are registered and not in maintenance: who is critical should
// be there as well.
func (s *Source) expected() map[ops.ServiceKey]ops.Expectation {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := map[ops.ServiceKey]ops.Expectation{}
	for _, name := range slices.Sorted(maps.Keys(s.registered)) {
		for key, n := range s.registered[name] {
			want[key] = ops.Together(want[key], ops.Expectation{Count: n, Says: "Consul service " + name})
		}
	}
	return want
}

// connect makes a client that holds nothing after done.
func (s *Source) connect() (*api.Client, func(), error) {
	transport := &http.Transport{
		DialContext:       (&net.Dialer{Timeout: answerWithin, Control: discovery.GuardDial}).DialContext,
		MaxIdleConns:      maxServices,
		IdleConnTimeout:   2 * holdFor,
		ForceAttemptHTTP2: true, TLSHandshakeTimeout: answerWithin,
		MaxIdleConnsPerHost: maxServices,
	}
	c := &api.Config{Address: s.cfg.Address, Datacenter: s.cfg.Datacenter, Namespace: s.cfg.Namespace, Partition: s.cfg.Partition}
	if strings.HasPrefix(c.Address, "https://") {
		var err error
		if transport.TLSClientConfig, err = s.cfg.TLS.Load(); err != nil {
			return nil, nil, err
		}
	}
	c.HttpClient = &http.Client{Transport: bounded{transport}}
	client, err := api.NewClient(c)
	if err != nil {
		return nil, nil, ops.Errorf(ops.Invalid, "consul at %s: %w", s.cfg.Address, err)
	}
	return client, transport.CloseIdleConnections, nil
}

// bounded cuts answers that nothing sane is as long as.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswerBytes), resp.Body}
	}
	return resp, err
}

// query is one that Consul holds: it returns the index to ask from next.
type query func(ctx context.Context, o *api.QueryOptions) (*api.QueryMeta, error)

// follow asks again and again until ctx ends.
func (s *Source) follow(ctx context.Context, name string, ask query) {
	defer s.report(name, "")
	index, pause := uint64(0), firstPause
	for ctx.Err() == nil {
		meta, err := s.once(ctx, index, ask)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.report(name, s.explain(err))
			// Whoever comes back may have begun to count anew.
			index = 0
			sleep(ctx, pause/2+rand.N(pause/2))
			pause = min(2*pause, lastPause)
			continue
		}
		s.report(name, "")
		pause = firstPause
		switch {
		case meta.LastIndex < index: // as Consul's documentation wants it: it was restored
			index = 0
		case meta.LastIndex == 0: // never block on 0, and never spin
			sleep(ctx, firstPause)
		default:
			index = meta.LastIndex
		}
	}
}

func (s *Source) once(ctx context.Context, index uint64, ask query) (*api.QueryMeta, error) {
	o := &api.QueryOptions{WaitIndex: index, WaitTime: holdFor}
	within := answerWithin
	if index > 0 {
		within += holdFor + holdFor/16
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if s.cfg.TokenFile != "" {
		var err error
		if o.Token, err = discovery.Secret(s.cfg.TokenFile); err != nil {
			return nil, err
		}
	}
	return ask(ctx, o.WithContext(ctx))
}

// report says what a query fails of; empty = it does not.
func (s *Source) report(name, problem string) {
	s.mu.Lock()
	if problem == "" {
		delete(s.failing, name)
	} else {
		s.failing[name] = problem
	}
	text := s.problem()
	s.mu.Unlock()
	s.Set(text)
}

// problem is the first of all; the caller holds s.mu.
func (s *Source) problem() string {
	for _, troubles := range []map[string]string{s.failing, s.odd} {
		if len(troubles) > 0 {
			name := slices.Min(slices.Collect(maps.Keys(troubles)))
			return troubles[name]
		}
	}
	return ""
}

// list is what all services have, once each has been heard.
func (s *Source) list(w *watches) ([]ops.Target, bool) {
	wanted, known := w.names()
	if !known {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list, seen := []ops.Target{}, map[string]bool{}
	for _, name := range wanted {
		targets, heard := s.services[name]
		if !heard {
			return nil, false
		}
		for _, t := range targets {
			if !seen[t.URL] && len(list) < maxTargets {
				seen[t.URL] = true
				list = append(list, t)
			}
		}
	}
	return list, true
}

func (s *Source) tell() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// explain says what is wrong, and what to do about it.
func (s *Source) explain(err error) string {
	var status api.StatusError
	what := "without a token: set token_file"
	if s.cfg.TokenFile != "" {
		what = "with this token: let its policy read nodes and services"
	}
	switch {
	case errors.Is(err, errHidden):
		return fmt.Sprintf("consul at %s shows nothing %s", s.cfg.Address, what)
	case errors.As(err, &status) && (status.Code == http.StatusForbidden || status.Code == http.StatusUnauthorized):
		return fmt.Sprintf("consul at %s refuses to answer (%d) %s", s.cfg.Address, status.Code, what)
	case errors.As(err, &status):
		return fmt.Sprintf("consul at %s answers %d: %.120s", s.cfg.Address, status.Code, strings.TrimSpace(status.Body))
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer from consul at %s in time: check that it runs and can be reached from here", s.cfg.Address)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op
	}
	return fmt.Sprintf("consul at %s: %.200v", s.cfg.Address, err)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
