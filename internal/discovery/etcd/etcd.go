// Package etcd is the discovery source of services that register themselves in
// etcd: the keys below a prefix, watched. It reads what etcd's own naming
// (`endpoints`) and go-zero write, and a JSON of our own that says more.
//
// A cluster that is away, or refuses, keeps what was said last; so does a key
// whose value becomes unreadable.
package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// Config makes a Source.
type Config struct {
	// Endpoints are the cluster's: "10.0.0.1:2379" or "https://etcd.example.com:2379".
	Endpoints []string `yaml:"endpoints"`
	// Prefix of the keys: "/services/". What follows it up to a key's last slash is
	// the service, or project and service, where the value does not say it.
	Prefix string `yaml:"prefix"`
	// User and PasswordFile say who asks; empty = nobody in particular.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	// TLS of https endpoints.
	TLS              discovery.TLS `yaml:"tls"`
	discovery.Naming `yaml:",inline"`
	// Logger tells what is wrong, once; nil = silent.
	Logger *slog.Logger `yaml:"-"`

	probe time.Duration // 0 = probeEvery
}

const (
	answerWithin = 5 * time.Second
	// probeEvery is how often the cluster is asked whether it is there: a watch
	// whose server died says nothing.
	probeEvery = 5 * time.Second
	// settle lets a burst of changes become one list.
	settle     = 50 * time.Millisecond
	firstPause = 500 * time.Millisecond
	lastPause  = 10 * time.Second
	// maxKeys bounds what a prefix that is too short brings in.
	maxKeys = 20_000
)

// Validate says what cannot be, as an Invalid error that names the field.
func (c Config) Validate() error {
	if len(c.Endpoints) == 0 {
		return ops.Errorf(ops.Invalid, "endpoints: missing: write the cluster's, such as 10.0.0.1:2379")
	}
	secure := 0
	for _, e := range c.Endpoints {
		scheme, host, ok := strings.Cut(e, "://")
		if !ok {
			scheme, host = "http", e
		}
		if _, _, err := net.SplitHostPort(host); err != nil || (scheme != "http" && scheme != "https") || strings.ContainsAny(host, "/@?#") {
			return ops.Errorf(ops.Invalid, "endpoints: %q is none: write host:port or https://host:port", redact(e))
		}
		if scheme == "https" {
			secure++
		}
	}
	switch {
	case secure > 0 && secure < len(c.Endpoints):
		return ops.Errorf(ops.Invalid, "endpoints: some are https and some are not: use one for all")
	case secure == 0 && c.TLS != (discovery.TLS{}):
		return ops.Errorf(ops.Invalid, "tls: the endpoints are not https: write them as https://host:port")
	case c.Prefix == "":
		return ops.Errorf(ops.Invalid, "prefix: missing: write what the services' keys begin with, such as /services/")
	case (c.User == "") != (c.PasswordFile == ""):
		return ops.Errorf(ops.Invalid, "user and password_file belong together: give both or none")
	}
	if err := c.TLS.Validate(); err != nil {
		return err
	}
	return c.Naming.Validate()
}

func redact(e string) string {
	if u, err := url.Parse(e); err == nil {
		return u.Redacted()
	}
	return e
}

// Source watches the keys.
type Source struct {
	*discovery.Trouble
	cfg   Config
	probe time.Duration
	hosts string

	// Only Run's goroutine:
	known map[string]ops.Target // by key
	odd   map[string]string     // by key, what is wrong with its value
}

// New checks the configuration. It asks nothing yet.
func New(cfg Config) (discovery.Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, probe: cmp.Or(cfg.probe, probeEvery), known: map[string]ops.Target{}, odd: map[string]string{}}
	var hosts []string
	for _, e := range cfg.Endpoints {
		hosts = append(hosts, strings.TrimPrefix(strings.TrimPrefix(e, "http://"), "https://"))
	}
	s.hosts = strings.Join(hosts, ",")
	s.Trouble = discovery.NewTrouble(cfg.Logger, s.Name())
	return s, nil
}

// Name is "etcd", the endpoints and the prefix.
func (s *Source) Name() string { return "etcd " + s.hosts + " " + s.cfg.Prefix }

// Run lists and watches the keys until ctx ends.
func (s *Source) Run(ctx context.Context, update func([]ops.Target)) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		began := time.Now()
		err := s.session(ctx, update)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is how Run ends
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = cmp.Or(s.handshake(ctx), err)
		}
		if err != nil {
			s.Set(s.explain(err))
		}
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		wait := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil
		}
	}
}

// session is one client, from its first list until it is of no use any more.
func (s *Source) session(ctx context.Context, update func([]ops.Target)) error {
	client, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		revision, err := s.list(ctx, client)
		if err != nil {
			return err
		}
		s.tell(update)
		again, err := s.watch(ctx, client, revision, update)
		if !again {
			return err
		}
	}
}

func (s *Source) connect(ctx context.Context) (*clientv3.Client, error) {
	c := clientv3.Config{
		Context: ctx, Endpoints: s.cfg.Endpoints, DialTimeout: answerWithin,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: answerWithin,
		Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{Control: discovery.GuardDial}).DialContext(ctx, "tcp", address)
		})},
	}
	var err error
	if strings.HasPrefix(s.cfg.Endpoints[0], "https://") {
		if c.TLS, err = s.cfg.TLS.Load(); err != nil {
			return nil, err
		}
	}
	if s.cfg.User != "" {
		c.Username = s.cfg.User
		if c.Password, err = discovery.Secret(s.cfg.PasswordFile); err != nil {
			return nil, err
		}
	}
	return clientv3.New(c)
}

// handshake says why TLS comes to nothing; the client itself only says that nobody
// answers. nil = it does come to something, or is not used.
func (s *Source) handshake(ctx context.Context) error {
	host, secure := strings.CutPrefix(s.cfg.Endpoints[0], "https://")
	if !secure {
		return nil
	}
	config, err := s.cfg.TLS.Load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	c, err := (&tls.Dialer{NetDialer: &net.Dialer{Control: discovery.GuardDial}, Config: config}).DialContext(ctx, "tcp", host)
	if err != nil {
		return err
	}
	defer c.Close()
	// A server that wants another certificate says so after the handshake.
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	if alert := (*net.OpError)(nil); errors.As(err, &alert) && alert.Op == "remote error" {
		return fmt.Errorf("it refuses the centre's certificate (%w): set cert_file and key_file to one that its authority signed", alert.Err)
	}
	return nil
}

// list reads all keys and returns the revision they are of.
func (s *Source) list(ctx context.Context, client *clientv3.Client) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	r, err := client.Get(ctx, s.cfg.Prefix, clientv3.WithPrefix(), clientv3.WithLimit(maxKeys+1))
	if err != nil {
		return 0, err
	}
	if len(r.Kvs) > maxKeys {
		return 0, ops.Errorf(ops.Exhausted, "more than %d keys begin with %q: use a longer prefix", maxKeys, s.cfg.Prefix)
	}
	before := s.known
	s.known, s.odd = make(map[string]ops.Target, len(r.Kvs)), map[string]string{}
	for _, kv := range r.Kvs {
		if t, ok := before[string(kv.Key)]; ok {
			s.known[string(kv.Key)] = t // what it said last, should the value be unreadable
		}
		s.take(kv)
	}
	return r.Header.Revision, nil
}

// take reads one key.
func (s *Source) take(kv *mvccpb.KeyValue) {
	key := string(kv.Key)
	t, listed, err := s.cfg.read(key, kv.Value)
	switch {
	case err != nil:
		s.odd[key] = err.Error()
		return
	case listed:
		t.Source = s.Name()
		s.known[key] = t
	default:
		delete(s.known, key)
	}
	delete(s.odd, key)
}

func (s *Source) drop(key string) {
	delete(s.known, key)
	delete(s.odd, key)
}

// tell says what there is, by key, each URL once.
func (s *Source) tell(update func([]ops.Target)) {
	keys := make([]string, 0, len(s.known))
	for k := range s.known {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	list := make([]ops.Target, 0, len(keys))
	seen := make(map[string]bool, len(keys))
	for _, k := range keys {
		if t := s.known[k]; !seen[t.URL] {
			seen[t.URL] = true
			list = append(list, t)
		}
	}
	s.Set(s.oddity())
	update(list)
}

// oddity says which values cannot be read; empty = all can.
func (s *Source) oddity() string {
	if len(s.odd) == 0 {
		return ""
	}
	var first string
	for k := range s.odd {
		if first == "" || k < first {
			first = k
		}
	}
	return fmt.Sprintf("%d of the keys cannot be read, of which what they said before stays; key %.120q: %s", len(s.odd), first, s.odd[first])
}

// watch follows the keys from a revision on. again means that they have to be
// listed anew with the same client.
func (s *Source) watch(ctx context.Context, client *clientv3.Client, revision int64, update func([]ops.Target)) (again bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var opening sync.WaitGroup
	defer opening.Wait()
	defer cancel()
	// Watch itself blocks while the cluster is away, even for ever: the probe must not.
	opened := make(chan clientv3.WatchChan, 1)
	opening.Go(func() {
		opened <- client.Watch(clientv3.WithRequireLeader(ctx), s.cfg.Prefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	})
	var events clientv3.WatchChan
	probe := time.NewTicker(s.probe)
	defer probe.Stop()
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()
	waiting := false
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case events = <-opened:
		case r, ok := <-events:
			if !ok {
				return true, nil
			}
			if err := r.Err(); err != nil {
				// What happened meanwhile is compacted away: the list says how it ended.
				return errors.Is(err, rpctypes.ErrCompacted), err
			}
			for _, e := range r.Events {
				if e.Type == mvccpb.DELETE {
					s.drop(string(e.Kv.Key))
				} else {
					s.take(e.Kv)
				}
			}
			revision = max(revision, r.Header.Revision)
			if len(s.known) > maxKeys {
				return true, nil // which says that they are too many
			}
			if !waiting && len(r.Events) > 0 {
				waiting = true
				quiet.Reset(settle)
			}
		case <-quiet.C:
			waiting = false
			s.tell(update)
		case <-probe.C:
			now, err := s.ask(ctx, client)
			switch {
			case ctx.Err() != nil:
				return false, nil
			case err != nil:
				s.Set(s.explain(err))
				if refuses(err) {
					return false, err
				}
			case now < revision:
				// The cluster has another past: restored from a copy, or made anew.
				return true, nil
			case s.Problem() != s.oddity():
				// It was away: whatever the watch missed, the list knows.
				return true, nil
			}
		}
	}
}

// ask says of which revision the cluster is.
func (s *Source) ask(ctx context.Context, client *clientv3.Client) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	r, err := client.Get(ctx, s.cfg.Prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return r.Header.Revision, nil
}

func refuses(err error) bool {
	for _, e := range []error{rpctypes.ErrAuthFailed, rpctypes.ErrPermissionDenied, rpctypes.ErrInvalidAuthToken, rpctypes.ErrUserEmpty, rpctypes.ErrAuthOldRevision} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// explain says what is wrong, and what to do about it.
func (s *Source) explain(err error) string {
	switch {
	case errors.Is(err, rpctypes.ErrAuthFailed):
		return fmt.Sprintf("etcd at %s refuses user %q: check user and password_file", s.hosts, s.cfg.User)
	case errors.Is(err, rpctypes.ErrUserEmpty):
		return fmt.Sprintf("etcd at %s wants to know who asks: set user and password_file", s.hosts)
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return fmt.Sprintf("etcd at %s refuses keys that begin with %q to user %q: grant the user's role to read them", s.hosts, s.cfg.Prefix, s.cfg.User)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer from etcd at %s within %v: check that it runs and can be reached from here", s.hosts, answerWithin)
	}
	return fmt.Sprintf("etcd at %s: %v", s.hosts, err)
}
