package agent

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// tunnelProtocol is what the connection is upgraded to: gRPC, with the centre as
// the client on the connection that the agent dialled.
const tunnelProtocol = "opscenter-agent/1"

const (
	dialWithin      = 10 * time.Second
	handshakeWithin = 10 * time.Second
	// steadyAfter is how long a tunnel has to hold for the next dial to be as
	// eager as the first.
	steadyAfter = 20 * time.Second
	// windowBytes bound what the centre may have on its way to the agent, and
	// switch off the bandwidth probing pings.
	windowBytes = 512 << 10
	// writeBytes go to the kernel at once. What the runtime spends on waking the
	// other side is per write; the buffer is only held while there is something
	// in it.
	writeBytes    = 128 << 10
	maxRequest    = 1 << 20
	maxStreams    = 64
	maxAnswer     = 64 << 10 // the centre's answer to the upgrade, with its header
	maxRefusal    = 1 << 10
	tcpDeadAfter  = 30 * time.Second
	maxTokenBytes = 16 << 10
)

// runTunnel keeps a tunnel to the centre until Close.
func (a *Agent) runTunnel() {
	again := redial{base: a.tune.backoffBase, most: a.tune.backoffMax, random: rand.Float64}
	down := false // whether the operator was told
	for {
		began := time.Now()
		joined, err := a.tunnelOnce()
		if a.ctx.Err() != nil {
			return
		}
		switch {
		case joined:
			a.log.Warn("centre lost, dialling again", slog.String("centre", a.cfg.center.Host), slog.Any("reason", err))
			down = false
		case !down:
			// Once, not at every attempt: a centre may be away for days.
			a.log.Warn("centre not reached, will keep trying", slog.String("centre", a.cfg.center.Host), slog.Any("error", err))
			down = true
		}
		wait := time.NewTimer(again.after(joined, time.Since(began)))
		select {
		case <-wait.C:
		case <-a.ctx.Done():
			wait.Stop()
			return
		}
	}
}

// redial is when to dial next.
type redial struct {
	attempt    int
	base, most time.Duration
	random     func() float64 // of [0, 1)
}

// after is the wait after a dial that had a tunnel for a while, or had none.
func (r *redial) after(joined bool, held time.Duration) time.Duration {
	if joined && held > steadyAfter {
		r.attempt = 0
	}
	r.attempt++
	return backoff(r.attempt-1, r.base, r.most, r.random())
}

// backoff is the wait before the next dial: a random part, but not less than a
// tenth, of a time that doubles. Thousands of agents lose their centre at once
// and must not return at once.
func backoff(attempt int, base, most time.Duration, random float64) time.Duration {
	d := most
	if attempt < 20 {
		d = min(base<<attempt, most)
	}
	return d/10 + time.Duration(random*0.9*float64(d))
}

// tunnelOnce dials, upgrades and serves until the connection ends. joined says
// that the centre took the upgrade.
func (a *Agent) tunnelOnce() (joined bool, err error) {
	defer func() {
		if r := recover(); r != nil { // dial again rather than never
			err = fmt.Errorf("the tunnel failed: %v", r)
		}
	}()
	cert, token, err := a.credential()
	if err != nil {
		return false, err
	}
	dialled, err := a.dialCenter(cert)
	if err != nil {
		return false, err
	}
	defer func() { _ = dialled.Close() }()
	conn, err := a.upgrade(dialled, token)
	if refused := (refusedError{}); errors.As(err, &refused) {
		a.join.drop(cert) // the next attempt asks for another
	}
	if err != nil {
		return false, err
	}
	a.log.Info("joined the centre", slog.String("centre", a.cfg.center.Host), slog.String("boot_id", a.self.bootID))
	return true, a.serveTunnel(conn)
}

func (a *Agent) dialCenter(cert *tls.Certificate) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(a.ctx, dialWithin)
	defer cancel()
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control:         controlTCP,
	}
	dialled, err := d.DialContext(ctx, "tcp", a.cfg.center.Host)
	if err != nil {
		return nil, err
	}
	conn := direct(dialled)
	if a.cfg.center.Scheme != "https" {
		return conn, nil
	}
	under := &gatherConn{Conn: conn}
	config := tlsConfig(a.cfg.center.Hostname(), a.pins()...)
	showing(config, cert)
	secure := tls.Client(under, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS with the centre: %w", err)
	}
	return gatheredTLS{secure, under}, nil
}

// upgrade asks for the tunnel and returns the connection to serve on.
func (a *Agent) upgrade(conn net.Conn, token string) (*upgradedConn, error) {
	stop := context.AfterFunc(a.ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(handshakeWithin)); err != nil {
		return nil, err
	}
	u := a.cfg.center
	req := &http.Request{
		Method: http.MethodPost,
		URL:    &url.URL{Path: u.Path},
		Host:   u.Host,
		Header: http.Header{
			"Connection":   {"Upgrade"},
			"Upgrade":      {tunnelProtocol},
			"User-Agent":   {"opscenter-agent/" + agentVersion},
			"Ops-Protocol": {strconv.Itoa(protocolVersion)},
			"Ops-Project":  {a.cfg.project},
			"Ops-Service":  {a.cfg.service},
			"Ops-Boot-Id":  {a.self.bootID},
		},
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("asking the centre for a tunnel: %w", err)
	}
	// Bounded, for the answer's header is read into memory; what follows it is
	// read from the connection itself.
	r := bufio.NewReader(io.LimitReader(conn, maxAnswer))
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, fmt.Errorf("the centre's answer: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || !strings.EqualFold(resp.Header.Get("Upgrade"), tunnelProtocol) {
		return nil, refusal(resp)
	}
	if !stop() {
		return nil, a.ctx.Err()
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	up := &upgradedConn{Conn: conn, r: r, closed: make(chan struct{})}
	up.chains.agent, up.chains.conn = a, up
	return up, nil
}

// refusal says why there is no tunnel, in the centre's words.
func refusal(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	msg := strings.Join(strings.Fields(strings.ToValidUTF8(string(b), "?")), " ")
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return refusedError{resp.Status, msg}
	case http.StatusSwitchingProtocols:
		return fmt.Errorf("the centre switched to %q instead of %s", resp.Header.Get("Upgrade"), tunnelProtocol)
	case http.StatusNotFound:
		return fmt.Errorf("there is no centre at this address (%s): %s; check OPS_CENTER, with its base path", resp.Status, msg)
	}
	return fmt.Errorf("the centre answered %s: %s", resp.Status, msg)
}

// refusedError is the centre's word that it does not want this agent.
type refusedError struct{ status, msg string }

func (e refusedError) Error() string {
	return fmt.Sprintf("the centre refused this agent (%s): %s; check OPS_TOKEN_FILE", e.status, e.msg)
}

func readToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("the token file: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxTokenBytes))
	if err != nil {
		return "", fmt.Errorf("the token file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("the token file %s is empty or holds more than one word: it has to hold the token alone", file)
	}
	return token, nil
}

// serveTunnel serves the protocol on one connection until it ends.
func (a *Agent) serveTunnel(c *upgradedConn) error {
	activity := &tunnelActivity{last: time.Now()}
	server := grpc.NewServer(append(a.cfg.services.options(a, activity),
		grpc.ForceServerCodecV2(newFrameCodec()),
		grpc.InitialWindowSize(windowBytes),
		grpc.InitialConnWindowSize(windowBytes),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeWithin),
		grpc.WriteBufferSize(writeBytes),
		grpc.SharedWriteBuffer(true),
		grpc.WaitForHandlers(true),
	)...)
	all := &service{agent: a, tunnel: activity, chains: &c.chains}
	agentv1.RegisterAgentServiceServer(server, all)
	agentv1.RegisterRuleServiceServer(server, &ruleService{service: all})
	a.cfg.services.register(server)
	listener := &oneConn{conn: c, closed: make(chan struct{})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer a.survive("tunnel server")
		_ = server.Serve(listener)
	}()
	idle := time.NewTicker(max(a.tune.idleTunnel/4, time.Millisecond))
	defer idle.Stop()
	err := errors.New("the connection ended")
wait:
	for {
		select {
		case <-c.closed:
			break wait
		case <-idle.C:
			if d := activity.idle(time.Now()); d > a.tune.idleTunnel {
				err = fmt.Errorf("the centre asked nothing for %v", d.Round(time.Second))
				break wait
			}
		case <-a.ctx.Done():
			// Watches end with OK, which is the goodbye; let them arrive.
			graceful := make(chan struct{})
			go func() {
				defer close(graceful)
				defer a.survive("tunnel goodbye")
				server.GracefulStop()
			}()
			patience := time.NewTimer(goodbyeWithin)
			select {
			case <-graceful:
			case <-patience.C:
			}
			patience.Stop()
			server.Stop()
			<-graceful
			<-served
			return nil
		}
	}
	_ = listener.Close()
	_ = c.Close()
	server.Stop()
	<-served
	return err
}

// tunnelActivity notes when the centre last had a call open. A centre that lives
// always has one, the heartbeat; without any the tunnel leads nowhere, whatever
// TCP says.
type tunnelActivity struct {
	mu   sync.Mutex
	open int
	last time.Time
}

// call notes a call and returns what notes its end.
func (t *tunnelActivity) call() (ended func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.open--
		t.last = time.Now()
	}
}

func (t *tunnelActivity) idle(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open > 0 {
		return 0
	}
	return now.Sub(t.last)
}

// upgradedConn is a connection whose first bytes may have been read already,
// that says when it was closed, and that tells what is being sent on it of every
// write.
type upgradedConn struct {
	net.Conn
	r      *bufio.Reader
	once   sync.Once
	closed chan struct{}
	chains chains
}

func (c *upgradedConn) Read(p []byte) (int, error) {
	if c.r != nil {
		if c.r.Buffered() > 0 {
			return c.r.Read(p[:min(len(p), c.r.Buffered())])
		}
		c.r = nil // only one goroutine reads
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn.
func (c *upgradedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err == nil {
		c.chains.written()
	}
	return n, err
}

func (c *upgradedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// oneConn is a listener with one connection.
type oneConn struct {
	mu     sync.Mutex
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return tunnelAddr{} }

type tunnelAddr struct{}

func (tunnelAddr) Network() string { return "tunnel" }
func (tunnelAddr) String() string  { return "tunnel" }
