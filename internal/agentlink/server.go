// Package agentlink is the centre's end of the agent protocol. Agents dial the
// centre and are then asked over the connection they made (the tunnel), or they
// listen and are dialled; the protocol is the same. Each process has one link
// for as long as it lives, whatever becomes of its connections.
//
// It must not know who else is in the fleet or where artifacts go. What an agent
// sends is foreign: it is checked and bounded here, and nothing of it can do
// more than end its own connection.
package agentlink

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/status"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// Joiner makes an instance part of the fleet for as long as it blocks. It
// returns nil if the process said goodbye.
type Joiner interface {
	Join(ctx context.Context, i ops.Instance, l ops.Link) error
}

// Config makes a Server.
type Config struct {
	// Fleet takes the instances. Required.
	Fleet Joiner
	// Authorize decides whether a request may open a tunnel; its headers say
	// who it claims to be. A Denied error is answered with 401, any other with
	// 503. nil = everybody may.
	Authorize func(*http.Request) error
	// Room says whether there is room for one more of whom the headers name; its error
	// is what the agent reads in its log. nil = there always is, as far as is known
	// before the fleet is asked.
	Room func(ops.Instance) error
	// Token is the bearer token that agents that listen ask of the centre; empty
	// = none. It is sent over TLS only; agents on loopback ask for none.
	Token string
	// PlaintextToken sends Token to grpc:// targets as well, where everybody on
	// the way can read it.
	PlaintextToken bool
	// TLS is how grpcs:// targets are verified; nil = by the system's roots.
	TLS *tls.Config
	// Patience is how long a capture waits for a process whose connection was
	// lost; 0 = ops.GoneAfter.
	Patience time.Duration
	// MaxCaptureBytes bounds what one instance may send for one capture;
	// 0 = ops.MaxCaptureBytes.
	MaxCaptureBytes int64
	// Version is the centre's own, for the agents' logs.
	Version string
	// Logger tells of refused and lost agents; nil = silent.
	Logger *slog.Logger
}

// The tunnel. Protocol is the version of the agent protocol this centre speaks;
// peers that are one version older or newer are served.
const (
	Path         = "/opscenter.agent.v1/tunnel"
	upgradeToken = "opscenter-agent/1"
	protocol     = 1
)

const (
	callTimeout   = 5 * time.Second
	helloTimeout  = 10 * time.Second
	dialTimeout   = 10 * time.Second
	answerTimeout = 10 * time.Second
	// minSilence is long enough for a process that is throttled or stopped a while.
	minSilence = 5 * time.Second
	// maxClockOffset is how far off a clock may be and still be one: that of a
	// machine without a battery begins in 1970.
	maxClockOffset = 100 * 365 * 24 * time.Hour

	// connWindow bounds nothing that the window of a stream does not: gRPC returns it as the
	// bytes arrive, read or not. Every quarter of it is a message to the agent,
	// which has to wake up for it.
	connWindow = 16 << 20
	// maxMessage bounds everything but events: all runtime metrics at once are
	// some 50 KiB.
	maxMessage = 1 << 20
)

// Server accepts and dials agents. All methods may be called concurrently.
type Server struct {
	cfg      Config
	id       string // made anew with every Server
	log      *slog.Logger
	patience time.Duration
	maxBytes int64         // of one capture
	silence  time.Duration // of a capture's stream, after which its connection counts as lost
	frames   framePool
	lanes    lanes
	storm    storm

	closing context.Context // ends with Close
	end     context.CancelCauseFunc

	mu     sync.Mutex // guards all below and the fields of links
	links  map[ops.InstanceID]*link
	dialed map[ops.InstanceID]net.Conn // the last tunnel of each
	closed bool
	wg     sync.WaitGroup // of serves; Add under mu while not closed
}

// New makes a server. It starts nothing.
func New(cfg Config) *Server {
	s := &Server{
		cfg: cfg, id: rand.Text(), log: cfg.Logger, links: map[ops.InstanceID]*link{}, dialed: map[ops.InstanceID]net.Conn{},
		patience: cmp.Or(cfg.Patience, ops.GoneAfter), maxBytes: cmp.Or(cfg.MaxCaptureBytes, ops.MaxCaptureBytes),
	}
	s.silence = max(s.patience/2, minSilence)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.closing, s.end = context.WithCancelCause(context.Background())
	return s
}

var errClosed = errors.New("the centre is shutting down")

// Close ends every connection and waits until all that served them have ended.
// New connections are refused.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end(errClosed)
	s.wg.Wait()
	s.storm.close()
	return nil
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Add(1)
	return true
}

// ServeHTTP accepts an agent's tunnel: it takes the connection over and returns.
// The connection then belongs to the Server, until it is lost or Close ends it,
// and not to the request: what net/http keeps of that is worth a third of what
// an idle agent costs.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	claim, refusal := s.check(r)
	if refusal != nil {
		s.log.Info("agent refused", "remote", r.RemoteAddr, "error", refusal.msg)
		for k, v := range refusal.header {
			w.Header().Set(k, v)
		}
		http.Error(w, refusal.msg, refusal.code)
		return
	}
	if !s.enter() {
		http.Error(w, "the centre is shutting down: try again in a moment", http.StatusServiceUnavailable)
		return
	}
	nc, err := hijack(w)
	if err != nil {
		s.wg.Done()
		http.Error(w, "the connection cannot be made a tunnel: "+err.Error(), http.StatusInternalServerError)
		return
	}
	s.storm.joined()
	remote := strings.Clone(r.RemoteAddr)
	s.opened(claim, nc)
	go func() { // Close waits for it
		defer s.wg.Done()
		defer nc.Close()
		defer s.ended(claim, nc)
		if err := s.tunnel(s.closing, nc, claim); err != nil && s.closing.Err() == nil {
			s.log.Info("agent left", "instance", claim.bootID, "service", claim.project+"/"+claim.service, "remote", remote, "error", err)
		}
	}()
}

func (s *Server) opened(who claim, nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialed[ops.InstanceID(who.bootID)] = nc
}

func (s *Server) ended(who claim, nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id := ops.InstanceID(who.bootID); s.dialed[id] == nc {
		delete(s.dialed, id)
	}
}

// Drop closes the tunnels of these instances, which then have to be let in
// again.
func (s *Server) Drop(ids []ops.InstanceID) {
	var all []net.Conn
	s.mu.Lock()
	for _, id := range ids {
		if nc := s.dialed[id]; nc != nil {
			all = append(all, nc)
		}
	}
	s.mu.Unlock()
	for _, nc := range all {
		_ = nc.Close() // whoever serves it finds out
	}
}

// context ends with the caller's and with Close.
func (s *Server) context(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := context.AfterFunc(s.closing, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// claim is who an agent says it is before it is asked.
type claim struct{ project, service, bootID string }

type refusal struct {
	code   int
	msg    string
	header map[string]string
}

// check looks at everything that can be known before the connection is taken over.
func (s *Server) check(r *http.Request) (claim, *refusal) {
	if r.Method != http.MethodPost {
		return claim{}, &refusal{http.StatusMethodNotAllowed, "this is where agents connect: use POST with Upgrade: " + upgradeToken, map[string]string{"Allow": http.MethodPost}}
	}
	if r.ProtoMajor != 1 {
		return claim{}, &refusal{http.StatusHTTPVersionNotSupported, "agents connect over HTTP/1.1: let the proxy in front speak it, or offer only http/1.1 in TLS", nil}
	}
	if !hasToken(r.Header.Values("Connection"), "upgrade") || !hasToken(r.Header.Values("Upgrade"), upgradeToken) {
		return claim{}, &refusal{http.StatusUpgradeRequired, "the request does not ask for Upgrade: " + upgradeToken + ": a proxy in front must pass Connection and Upgrade on", map[string]string{"Upgrade": upgradeToken, "Connection": "Upgrade"}}
	}
	if s.cfg.Authorize != nil {
		if err := s.cfg.Authorize(r); err != nil {
			if ops.KindOf(err) == ops.Denied {
				return claim{}, &refusal{http.StatusUnauthorized, err.Error(), map[string]string{"WWW-Authenticate": "Bearer"}}
			}
			return claim{}, &refusal{http.StatusServiceUnavailable, err.Error(), nil}
		}
	}
	v, err := strconv.ParseUint(r.Header.Get("Ops-Protocol"), 10, 32)
	if err != nil || v == 0 {
		return claim{}, &refusal{http.StatusBadRequest, fmt.Sprintf("header Ops-Protocol is %q: send the version of the agent protocol, such as %d", clip(r.Header.Get("Ops-Protocol"), 40), protocol), nil}
	}
	if err := compatible(protocol, uint32(v)); err != nil {
		return claim{}, &refusal{http.StatusBadRequest, err.Error(), nil}
	}
	c := claim{r.Header.Get("Ops-Project"), r.Header.Get("Ops-Service"), r.Header.Get("Ops-Boot-Id")}
	if err := checkNames(c.project, c.service, c.bootID); err != nil {
		return claim{}, &refusal{http.StatusBadRequest, err.Error(), nil}
	}
	if s.cfg.Room == nil {
		return c, nil
	}
	err = s.cfg.Room(ops.Instance{ID: ops.InstanceID(c.bootID), Project: ops.ProjectName(c.project), Service: ops.ServiceName(c.service)})
	switch {
	case ops.KindOf(err) == ops.Exhausted:
		return claim{}, &refusal{http.StatusTooManyRequests, err.Error(), map[string]string{"Retry-After": "30"}}
	case err != nil: // not 403, which says that its certificate is of no use
		return claim{}, &refusal{http.StatusConflict, err.Error(), nil}
	}
	return c, nil
}

// compatible lets peers talk that are at most one version apart.
func compatible(ours, theirs uint32) error {
	switch {
	case theirs == 0 || theirs < ours-1: // ours is at least 1
		return ops.Errorf(ops.Invalid, "the agent speaks version %d of the protocol and this centre %d: update the agent", theirs, ours)
	case theirs > ours+1:
		return ops.Errorf(ops.Invalid, "the agent speaks version %d of the protocol and this centre %d: update the centre", theirs, ours)
	}
	return nil
}

// hasToken looks for a token in a header of comma-separated ones.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// hijack takes the connection over, answers 101 and returns it with whatever the
// agent has sent since.
func hijack(w http.ResponseWriter) (net.Conn, error) {
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	// The server's deadlines were for the request.
	if err := nc.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		nc.Close()
		return nil, err
	}
	const answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgradeToken + "\r\nOps-Protocol: "
	if _, err := nc.Write([]byte(answer + strconv.Itoa(protocol) + "\r\n\r\n")); err != nil {
		nc.Close()
		return nil, err
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		nc.Close()
		return nil, err
	}
	if n := rw.Reader.Buffered(); n > 0 {
		early := make([]byte, n)
		if _, err := io.ReadFull(rw.Reader, early); err != nil {
			nc.Close()
			return nil, err
		}
		return &earlyConn{Conn: nc, early: early}, nil
	}
	return nc, nil
}

// earlyConn has bytes that were read too early.
type earlyConn struct {
	net.Conn
	early []byte
}

func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

func (s *Server) tunnel(ctx context.Context, nc net.Conn, who claim) error {
	nc, l, leave := s.lanes.enter(nc)
	defer leave()
	once := make(chan net.Conn, 1)
	once <- nc
	cc, err := s.client("tunnel", insecure.NewCredentials(), l, func(context.Context, string) (net.Conn, error) {
		select {
		case c := <-once:
			return c, nil
		default: // gRPC would like to connect again; only the agent can
			return nil, errors.New("the agent's connection was lost")
		}
	})
	if err != nil {
		return err
	}
	defer cc.Close()
	return s.serve(ctx, cc, false, func(i *ops.Instance) error {
		if got := (claim{string(i.Project), string(i.Service), string(i.ID)}); got != who {
			return ops.Errorf(ops.Denied, "the agent connected as %s/%s %s and now says it is %s/%s %s", who.project, who.service, who.bootID, got.project, got.service, got.bootID)
		}
		i.Address = i.Process.Hostname + "/" + strconv.Itoa(i.Process.PID)
		return nil
	})
}

// Connect dials an agent that listens, at grpc://host:port or grpcs://host:port,
// and makes it part of the fleet until the connection is lost or ctx ends. An
// instance that is connected already stays as it is: that is a Conflict error.
func (s *Server) Connect(ctx context.Context, t ops.Target) error {
	u, err := url.Parse(t.URL)
	if err != nil || (u.Scheme != "grpc" && u.Scheme != "grpcs") || u.Port() == "" {
		return ops.Errorf(ops.Invalid, "%q is not the address of an agent: write grpc://host:port or grpcs://host:port", t.URL)
	}
	if !s.enter() {
		return ops.Errorf(ops.Unavailable, "%w", errClosed)
	}
	defer s.wg.Done()
	ctx, cancel := s.context(ctx)
	defer cancel()
	creds, l := insecure.NewCredentials(), lane{narrowWindow, readPlain}
	if u.Scheme == "grpcs" {
		cfg := s.cfg.TLS.Clone()
		if cfg == nil {
			cfg = &tls.Config{}
		}
		cfg.ServerName = cmp.Or(cfg.ServerName, u.Hostname())
		creds, l.readAhead = credentials.NewTLS(cfg), readTLS
	}
	var opts []grpc.DialOption
	if s.cfg.Token != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(bearer{s.cfg.Token, s.cfg.PlaintextToken}))
	}
	dialer := &net.Dialer{Timeout: dialTimeout, Control: discovery.GuardDial}
	var dialErr lastError
	cc, err := s.client(u.Host, creds, l, func(ctx context.Context, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, "tcp", address)
		dialErr.set(err)
		return c, err
	}, opts...)
	if err != nil {
		return err
	}
	defer cc.Close()
	err = s.serve(ctx, cc, true, func(i *ops.Instance) error {
		// Who configured the source decides where the instance belongs.
		i.Source, i.Address = t.Source, t.URL
		i.Project, i.Service = cmp.Or(t.Project, i.Project), cmp.Or(t.Service, i.Service)
		labels := maps.Clone(i.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, t.Labels)
		i.Labels = labels
		return nil
	})
	var denied *ops.Error
	if d := dialErr.get(); errors.As(d, &denied) { // gRPC would only say that it is unavailable
		return d
	}
	return err
}

// lastError keeps the error of the last dial.
type lastError struct {
	mu  sync.Mutex
	err error
}

func (e *lastError) set(err error) { e.mu.Lock(); e.err = err; e.mu.Unlock() }
func (e *lastError) get() error    { e.mu.Lock(); defer e.mu.Unlock(); return e.err }

// bearer sends a token to those who may see it.
type bearer struct {
	token     string
	plaintext bool
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	if info, ok := credentials.RequestInfoFromContext(ctx); !b.plaintext && (!ok || credentials.CheckSecurityLevel(info.AuthInfo, credentials.PrivacyAndIntegrity) != nil) {
		return nil, nil
	}
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: the check
// is made per call, because an agent may need no token.
func (bearer) RequireTransportSecurity() bool { return false }

// client makes a gRPC client whose connections come from dial. It sends no
// keepalive pings: on a server that is not ours they may be against its policy,
// and the heartbeat tells more.
func (s *Server) client(target string, creds credentials.TransportCredentials, l lane, dial func(context.Context, string) (net.Conn, error), more ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+target, append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(dial),
		grpc.WithInitialWindowSize(l.window),
		grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithReadBufferSize(l.readAhead),
		experimental.WithBufferPool(&s.frames),
		grpc.WithSharedWriteBuffer(true),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithDisableHealthCheck(),
		grpc.WithNoProxy(),
		grpc.WithUserAgent("opscenter/" + cmp.Or(s.cfg.Version, "dev")),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(newCodec()), grpc.MaxCallRecvMsgSize(maxMessage)),
	}, more...)...)
}

// serve says hello and is the instance's connection until it is lost, the
// process says goodbye, or ctx ends.
func (s *Server) serve(ctx context.Context, cc *grpc.ClientConn, yield bool, settle func(*ops.Instance) error) error {
	c := &conn{cc: cc, client: agentv1.NewAgentServiceClient(cc)}
	inst, err := s.hello(ctx, c)
	if err == nil {
		err = settle(&inst)
	}
	if err != nil {
		return err
	}
	l, err := s.attach(inst.ID, inst.Key(), c, yield)
	if err != nil {
		return err
	}
	err = s.cfg.Fleet.Join(ctx, inst, l)
	s.detach(l, c, err == nil)
	return err
}

// hello asks who the agent is and what its clock says.
func (s *Server) hello(ctx context.Context, c *conn) (ops.Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	// The first call sets the connection up; the second measures the clock.
	var h *agentv1.HelloResponse
	for range 2 {
		before := time.Now()
		var err error
		h, err = c.client.Hello(ctx, &agentv1.HelloRequest{Protocol: protocol, CenterVersion: s.cfg.Version})
		if err != nil {
			return ops.Instance{}, s.explainHello(err)
		}
		if now := h.GetNow(); now != nil && now.CheckValid() == nil {
			middle := before.Add(time.Since(before) / 2)
			if d := now.AsTime().Sub(middle); d.Abs() <= maxClockOffset {
				c.offset = d
			}
		}
	}
	if err := compatible(protocol, h.GetProtocol()); err != nil {
		return ops.Instance{}, err
	}
	c.services, c.rules = h.GetGrpcServices(), h.GetRules()
	return instanceOf(h, c.offset)
}

func (s *Server) explainHello(err error) error {
	switch status.Code(err) {
	case codes.Unimplemented:
		return ops.Errorf(ops.Invalid, "a gRPC server answers, but no agent: call agent.Register on it")
	case codes.Unauthenticated, codes.PermissionDenied:
		hint := "give the centre the token that OPS_AGENT_TOKEN has in the service"
		if s.cfg.Token != "" && !s.cfg.PlaintextToken {
			hint = "check the token; it is sent over TLS only, so use grpcs:// or allow it in plaintext"
		}
		return ops.Errorf(ops.Denied, "the agent refuses the centre (%s): %s", clip(status.Convert(err).Message(), maxText), hint)
	}
	return fromStatus(err, "saying hello to the agent")
}
