package console

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// AddressLabel is the label by which a discovery source says where an instance
// serves gRPC: host:port, or :port on the host of its target; with grpcs:// in
// front the centre dials it with TLS. An agent's own labels are not believed:
// what it says would decide where the centre connects to.
const AddressLabel = "grpc"

// Exposer is a link whose connection leads to the instance's own gRPC server too.
type Exposer interface {
	// GRPC returns the connection and what ends its use; Unavailable if there is
	// none now, Conflict if it leads to the agent alone.
	GRPC() (cc grpc.ClientConnInterface, done func(), err error)
}

// Ways implements Conns: through the agent where its connection leads to the
// service's server, else to the address that a discovery source declares.
type Ways struct {
	Instance func(ops.InstanceID) (ops.Instance, error)
	Link     func(ops.InstanceID) (ops.Link, error)
	// Idle is how long an unused connection is kept; 0 = 1 min.
	Idle time.Duration

	mu    sync.Mutex
	conns map[dialled]*shared
}

// dialled is what tells connections apart.
type dialled struct {
	address, serverName string
	tls, skipVerify     bool
}

// shared is a connection that calls have in common.
type shared struct {
	cc    *grpc.ClientConn
	users int
	idle  *time.Timer
}

const (
	keptIdle   = time.Minute
	dialWithin = 5 * time.Second
)

// Conn implements Conns.
func (w *Ways) Conn(_ context.Context, id ops.InstanceID, r Route) (grpc.ClientConnInterface, func(), error) {
	inst, err := w.Instance(id)
	if err != nil {
		return nil, nil, err
	}
	if r == (Route{}) {
		link, err := w.Link(id)
		if err != nil {
			return nil, nil, err
		}
		if e, ok := link.(Exposer); ok {
			cc, done, err := e.GRPC()
			if err == nil || ops.KindOf(err) != ops.Conflict {
				return cc, done, err
			}
			if inst.Source == "agent" || inst.Labels[AddressLabel] == "" {
				return nil, nil, err
			}
		}
	}
	to, err := addressOf(inst, r)
	if err != nil {
		return nil, nil, err
	}
	return w.dial(to)
}

// addressOf returns where to dial: only where whoever configured the source
// said, or another port of the same host.
func addressOf(inst ops.Instance, r Route) (dialled, error) {
	declared := ""
	if inst.Source != "agent" {
		declared = inst.Labels[AddressLabel]
	}
	host := ""
	if u, err := url.Parse(inst.Address); err == nil && inst.Source != "agent" {
		host = u.Hostname()
	}
	to := dialled{tls: r.TLS, serverName: r.ServerName, skipVerify: r.SkipVerify}
	switch {
	case r.Port != 0 && host == "":
		return to, ops.Errorf(ops.Invalid, "instance %s came to the centre by itself, so there is no address to find port %d at: give its agent the service's methods (agent.Config.Services)", inst.ID, r.Port)
	case r.Port < 0 || r.Port > 65535:
		return to, ops.Errorf(ops.Invalid, "%d is no port: use 1 to 65535", r.Port)
	case r.Port != 0:
		to.address = net.JoinHostPort(host, strconv.Itoa(r.Port))
		return to, nil
	case declared == "":
		return to, ops.Errorf(ops.Invalid, "nobody said where instance %s serves gRPC: label it %s=host:port in its source, choose a port, or give its agent the service's methods (agent.Config.Services)", inst.ID, AddressLabel)
	}
	u, err := url.Parse(declared)
	if err == nil && (u.Scheme == "grpc" || u.Scheme == "grpcs") && u.Host != "" {
		to.tls = to.tls || u.Scheme == "grpcs"
		declared = u.Host
	}
	h, port, err := net.SplitHostPort(declared)
	if err != nil || port == "" || cmp.Or(h, host) == "" {
		return to, ops.Errorf(ops.Invalid, "the label %s=%s of instance %s is no address: write host:port, or :port", AddressLabel, inst.Labels[AddressLabel], inst.ID)
	}
	to.address = net.JoinHostPort(cmp.Or(h, host), port)
	return to, nil
}

func (w *Ways) dial(to dialled) (grpc.ClientConnInterface, func(), error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.conns[to]
	if s == nil {
		creds := insecure.NewCredentials()
		if to.tls {
			host, _, _ := net.SplitHostPort(to.address)
			creds = credentials.NewTLS(&tls.Config{
				ServerName: cmp.Or(to.serverName, host), MinVersion: tls.VersionTLS12,
				InsecureSkipVerify: to.skipVerify, //nolint:gosec // who calls asked for it, by name
			})
		}
		dialer := &net.Dialer{Timeout: dialWithin, Control: discovery.GuardDial}
		cc, err := grpc.NewClient("passthrough:///"+to.address,
			grpc.WithTransportCredentials(creds),
			grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", a) }),
			grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithDisableHealthCheck(), grpc.WithNoProxy(),
			grpc.WithUserAgent("opscenter-console"),
		)
		if err != nil {
			return nil, nil, ops.Errorf(ops.Invalid, "%s cannot be dialled: %w", to.address, err)
		}
		if w.conns == nil {
			w.conns = map[dialled]*shared{}
		}
		s = &shared{cc: cc}
		w.conns[to] = s
	}
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
	}
	s.users++
	return s.cc, sync.OnceFunc(func() { w.release(to, s) }), nil
}

// release ends one use; the last one closes the connection after a while.
func (w *Ways) release(to dialled, s *shared) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.users--; s.users > 0 {
		return
	}
	s.idle = time.AfterFunc(cmp.Or(w.Idle, keptIdle), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if s.users == 0 && w.conns[to] == s {
			delete(w.conns, to)
			_ = s.cc.Close()
		}
	})
}

// Close closes the connections that nobody uses any more, and those that somebody does.
func (w *Ways) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for to, s := range w.conns {
		if s.idle != nil {
			s.idle.Stop()
		}
		_ = s.cc.Close()
		delete(w.conns, to)
	}
	return nil
}
