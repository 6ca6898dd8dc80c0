// Package dnssrv is the discovery source of DNS SRV records: a name that answers
// with hosts and ports, asked again and again.
//
// A name server that is away, broken or refuses keeps what was said last; a name
// that exists no longer lists nothing.
package dnssrv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// Config makes a Source.
type Config struct {
	// Name of the records, in full: "_pprof._tcp.user-service.example.com".
	Name string `yaml:"name"`
	// Project of the instances; empty = "default".
	Project string `yaml:"project"`
	// Service of the instances. Required: a record does not say it.
	Service string `yaml:"service"`
	// Scheme is http or https of pprof endpoints, or grpc or grpcs of agents that
	// listen; empty = http.
	Scheme string `yaml:"scheme"`
	// Path of the pprof endpoints; empty = /debug/pprof.
	Path string `yaml:"path"`
	// Labels of all instances.
	Labels map[string]string `yaml:"labels"`
	// Server is the name server, host or host:port; empty = the system's.
	Server string `yaml:"server"`
	// Refresh is how often the name is asked for; 0 = 30 s. A tenth of it is
	// random, so that many centres do not ask at once.
	Refresh time.Duration `yaml:"refresh"`
	// Logger tells what is wrong, once; nil = silent.
	Logger *slog.Logger `yaml:"-"`
}

const (
	defaultRefresh = 30 * time.Second
	minRefresh     = 10 * time.Millisecond
	answerWithin   = 10 * time.Second
	// missesToBelieve is how often in a row a name must be said not to exist before
	// its instances are dropped: name servers that restart say so for a moment.
	missesToBelieve = 2
)

// Validate says what cannot be, as an Invalid error that names the field.
func (c Config) Validate() error {
	switch {
	case c.Name == "":
		return ops.Errorf(ops.Invalid, "name: missing: write the records' full name, such as _pprof._tcp.user-service.example.com")
	case strings.ContainsAny(c.Name, "/:@ "):
		return ops.Errorf(ops.Invalid, "name: %q is no DNS name: write one such as _pprof._tcp.user-service.example.com", c.Name)
	case c.Refresh < 0 || c.Refresh > 0 && c.Refresh < minRefresh:
		return ops.Errorf(ops.Invalid, "refresh: %v is too short: use one such as 30s", c.Refresh)
	}
	switch c.Scheme {
	case "", "http", "https":
	case "grpc", "grpcs":
		if c.Path != "" {
			return ops.Errorf(ops.Invalid, "path: an agent has none: leave it out, or use the scheme http")
		}
	default:
		return ops.Errorf(ops.Invalid, "scheme: %q is none: use http, https, grpc or grpcs", c.Scheme)
	}
	if c.Path != "" && c.Path[0] != '/' {
		return ops.Errorf(ops.Invalid, "path: %q: begin it with a slash", c.Path)
	}
	if _, err := c.target("host", 1); err != nil {
		return ops.Errorf(ops.Invalid, "service, project, path or labels: %w", err)
	}
	return nil
}

func (c Config) target(host string, port uint16) (ops.Target, error) {
	u := cmp.Or(c.Scheme, "http") + "://" + net.JoinHostPort(host, strconv.Itoa(int(port))) + c.Path
	return discovery.Normalize(ops.Target{Project: ops.ProjectName(c.Project), Service: ops.ServiceName(c.Service), URL: u, Labels: c.Labels})
}

// Source asks for the name.
type Source struct {
	*discovery.Trouble
	cfg      Config
	resolver *net.Resolver
	within   time.Duration // of each answer

	misses int // in a row; only Run's goroutine
}

// New checks the configuration. It asks nothing yet.
func New(cfg Config) (discovery.Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Refresh = cmp.Or(cfg.Refresh, defaultRefresh)
	s := &Source{cfg: cfg, resolver: net.DefaultResolver, within: answerWithin}
	s.Trouble = discovery.NewTrouble(cfg.Logger, s.Name())
	if cfg.Server != "" {
		server := cfg.Server
		if _, _, err := net.SplitHostPort(server); err != nil {
			server = net.JoinHostPort(server, "53")
		}
		s.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server)
		}}
	}
	return s, nil
}

// Name is "dns" and the records' name.
func (s *Source) Name() string { return "dns " + s.cfg.Name }

// Run asks until ctx ends.
func (s *Source) Run(ctx context.Context, update func([]ops.Target)) error {
	var last []ops.Target
	for first := true; ; {
		list, err := s.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end of ctx is how Run ends
		case err != nil:
			s.Set(err.Error())
		default:
			s.Set("")
			if first || !slices.EqualFunc(list, last, func(a, b ops.Target) bool { return a.URL == b.URL }) {
				first, last = false, list
				update(list)
			}
		}
		wait := time.NewTimer(s.cfg.Refresh - time.Duration(rand.Int64N(int64(s.cfg.Refresh)/10+1)))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil
		}
	}
}

// ask returns the targets by URL.
func (s *Source) ask(ctx context.Context) ([]ops.Target, error) {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	_, records, err := s.resolver.LookupSRV(ctx, "", "", strings.TrimSuffix(s.cfg.Name, ".")+".")
	var de *net.DNSError
	if errors.As(err, &de) && de.IsNotFound {
		if s.misses++; s.misses < missesToBelieve {
			return nil, errors.New("the name server says that the name does not exist: asking once more before it is believed")
		}
		return []ops.Target{}, nil
	}
	if err != nil && len(records) == 0 {
		return nil, explain(err)
	}
	s.misses = 0
	seen := map[string]bool{}
	list := make([]ops.Target, 0, len(records))
	var odd error
	for _, r := range records {
		t, err := s.cfg.target(strings.TrimSuffix(r.Target, "."), r.Port)
		if err != nil {
			odd = fmt.Errorf("a record points to %.80q, port %d: %w", r.Target, r.Port, err)
			continue
		}
		if !seen[t.URL] {
			seen[t.URL] = true
			t.Source = s.Name()
			list = append(list, t)
		}
	}
	if odd == nil && err != nil { // the resolver dropped records with names that cannot be
		odd = explain(err)
	}
	if odd != nil {
		return nil, odd
	}
	slices.SortFunc(list, func(a, b ops.Target) int { return cmp.Compare(a.URL, b.URL) })
	return list, nil
}

// explain says what a lookup failed of, without the name, which is said already.
func explain(err error) error {
	var de *net.DNSError
	switch {
	case !errors.As(err, &de):
		return err
	case de.IsTimeout && de.Server == "":
		return errors.New("no answer from the name server in time")
	case de.IsTimeout:
		return fmt.Errorf("no answer from the name server %s in time", de.Server)
	case strings.Contains(de.Err, "server misbehaving"):
		return fmt.Errorf("the name server %s fails or refuses to answer for this name: ask it with dig, and let the centre's address in", de.Server)
	}
	return fmt.Errorf("%s (name server %s)", de.Err, de.Server)
}
