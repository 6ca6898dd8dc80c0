// Package nacos is the discovery source of Nacos, asked over its HTTP open API
// (v1, which Nacos 1 and 2 serve) every few seconds.
//
// It needs no more than net/http: Nacos' own client would add 8 MB and 55 modules
// to the centre, writes log files, and keeps a list that has become empty. What it
// has over this one is that the server pushes changes to it.
//
// A Nacos that is away, or refuses, keeps what was said last.
package nacos

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// Config makes a Source.
type Config struct {
	// Addresses are the cluster's: "10.0.0.1:8848" or "https://nacos.example.com";
	// a path is the server's context path, else it is /nacos. Empty = 127.0.0.1:8848.
	Addresses []string `yaml:"addresses"`
	// User and PasswordFile say who asks; empty = nobody in particular.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	// Namespace is the namespace's id; empty = public.
	Namespace string `yaml:"namespace"`
	// Group of the services; empty = DEFAULT_GROUP.
	Group string `yaml:"group"`
	// Services to list; empty = all of the group.
	Services []string `yaml:"services"`
	// All lists instances that Nacos holds for unhealthy or that are disabled as
	// well, and says so; else they are left out.
	All bool `yaml:"all"`
	// Refresh is how often Nacos is asked; 0 = 5 s.
	Refresh time.Duration `yaml:"refresh"`
	// TLS of https addresses.
	TLS              discovery.TLS `yaml:"tls"`
	discovery.Naming `yaml:",inline"`
	// Logger tells what is wrong, once; nil = silent.
	Logger *slog.Logger `yaml:"-"`
}

const (
	defaultAddress = "127.0.0.1:8848"
	defaultGroup   = "DEFAULT_GROUP"
	// defaultRefresh is as often as Nacos' clients send their heartbeats.
	defaultRefresh = 5 * time.Second
	// maxServices bounds the requests of one refresh.
	maxServices = 500
	maxTargets  = 20_000
	// atOnce is how many services are asked for at the same time.
	atOnce = 8
)

// Validate says what cannot be, as an Invalid error that names the field.
func (c Config) Validate() error {
	secure := 0
	for _, a := range c.Addresses {
		u, err := base(a)
		if err != nil {
			return err
		}
		if u.Scheme == "https" {
			secure++
		}
	}
	switch {
	case secure > 0 && secure < len(c.Addresses):
		return ops.Errorf(ops.Invalid, "addresses: some are https and some are not: use one for all")
	case secure == 0 && c.TLS != (discovery.TLS{}):
		return ops.Errorf(ops.Invalid, "tls: the addresses are not https: write them as https://host:port")
	case (c.User == "") != (c.PasswordFile == ""):
		return ops.Errorf(ops.Invalid, "user and password_file belong together: give both or none")
	case slices.Contains(c.Services, ""):
		return ops.Errorf(ops.Invalid, "services: a name is empty")
	case len(c.Services) > maxServices:
		return ops.Errorf(ops.Invalid, "services: %d are too many for one source: use at most %d", len(c.Services), maxServices)
	case c.Refresh < 0:
		return ops.Errorf(ops.Invalid, "refresh: %v is negative: use one such as 5s", c.Refresh)
	}
	if err := c.TLS.Validate(); err != nil {
		return err
	}
	return c.Naming.Validate()
}

// base is where the API of one address begins.
func base(address string) (*url.URL, error) {
	full := address
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	u, err := url.Parse(full)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		shown := address
		if err == nil {
			shown = u.Redacted()
		}
		return nil, ops.Errorf(ops.Invalid, "addresses: %q is none: write host:port or https://host:port", shown)
	}
	if u.Port() == "" && u.Scheme == "http" {
		u.Host = net.JoinHostPort(u.Hostname(), "8848")
	}
	u.Path = cmp.Or(strings.TrimSuffix(u.Path, "/"), "/nacos")
	return u, nil
}

// Source asks Nacos.
type Source struct {
	*discovery.Trouble
	cfg   Config
	hosts string
}

// New checks the configuration. It asks nothing yet.
func New(cfg Config) (discovery.Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if len(cfg.Addresses) == 0 {
		cfg.Addresses = []string{defaultAddress}
	}
	cfg.Group, cfg.Refresh = cmp.Or(cfg.Group, defaultGroup), cmp.Or(cfg.Refresh, defaultRefresh)
	s := &Source{cfg: cfg}
	var hosts []string
	for _, a := range cfg.Addresses {
		u, err := base(a)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, u.Host)
	}
	s.hosts = strings.Join(hosts, ",")
	s.Trouble = discovery.NewTrouble(cfg.Logger, s.Name())
	return s, nil
}

// Name is "nacos", the hosts, the namespace and the group.
func (s *Source) Name() string {
	return strings.Join(strings.Fields("nacos "+s.hosts+" "+s.cfg.Namespace+" "+s.cfg.Group), " ")
}

// Run asks until ctx ends.
func (s *Source) Run(ctx context.Context, update func([]ops.Target)) error {
	c, err := newClient(s.cfg)
	if err != nil {
		s.Set(err.Error())
		return err
	}
	defer c.close()
	var last []ops.Target
	for told := false; ; {
		list, odd, err := s.round(ctx, c)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.Set(err.Error())
			c.next()
		default:
			s.Set(odd)
			if !told || !reflect.DeepEqual(list, last) {
				update(list)
				last, told = slices.Clone(list), true
			}
		}
		// A little earlier at random, so that centres do not ask at the same time.
		wait := time.NewTimer(s.cfg.Refresh - rand.N(s.cfg.Refresh/10+1))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil
		}
	}
}

// round asks once for everything. odd says which instances cannot be read.
func (s *Source) round(ctx context.Context, c *client) (list []ops.Target, odd string, err error) {
	names := s.cfg.Services
	if len(names) == 0 {
		if names, err = c.services(ctx); err != nil {
			return nil, "", err
		}
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	found, err := c.all(ctx, names)
	if err != nil {
		return nil, "", err
	}
	list, seen := []ops.Target{}, map[string]bool{}
	for i, name := range names {
		for _, in := range found[i] {
			if !s.cfg.All && in.complaint() != "" {
				continue
			}
			t, err := s.target(name, in)
			if err != nil {
				odd = cmp.Or(odd, fmt.Sprintf("instance %.80q of service %.80q: %v", net.JoinHostPort(in.IP, fmt.Sprint(in.Port)), name, err))
				continue
			}
			if !seen[t.URL] && len(list) < maxTargets {
				seen[t.URL] = true
				list = append(list, t)
			}
		}
	}
	// By URL: Nacos' order is nobody's.
	slices.SortFunc(list, func(a, b ops.Target) int { return cmp.Compare(a.URL, b.URL) })
	return list, odd, nil
}

func (s *Source) target(service string, in instance) (ops.Target, error) {
	meta := map[string]string{}
	if in.Cluster != "" && in.Cluster != "DEFAULT" {
		meta["cluster"] = in.Cluster
	}
	for k, v := range in.Metadata {
		if !strings.HasPrefix(k, "preserved.") { // what Nacos' clients tell Nacos
			meta[k] = v
		}
	}
	t, err := s.cfg.Naming.Target(service, in.IP, in.Port, meta)
	if err != nil {
		return t, err
	}
	t.Source, t.Complaint = s.Name(), in.complaint()
	return t, nil
}
