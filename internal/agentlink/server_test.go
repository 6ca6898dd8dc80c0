package agentlink

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

func TestATunnel(t *testing.T) {
	c := newCentre(t, Config{Version: "1.2.3"})
	a := newFakeAgent("boot-1")
	a.onHello = func(h *agentv1.HelloResponse) { h.Build.VcsRevision = strings.Repeat("r", 5000) }
	tun := a.dial(t, c.address)
	j := c.roster.next(t)
	if j.ID != "boot-1" || j.Project != "color-game" || j.Service != "user-service" || j.Source != "agent" || j.Agentless ||
		j.Address != "host-a/4711" || j.Labels["zone"] != "z1" || len(j.Kinds) != 2 || j.Process.GOMAXPROCS != 4 || len(j.Build.VCSRevision) > maxText+3 {
		t.Errorf("joined: %+v", j.Instance)
	}
	close(a.goodbye)
	select {
	case <-tun.closed:
	case <-time.After(time.Minute):
		t.Error("the centre kept the connection of a process that said goodbye")
	}
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	if len(c.roster.ends) != 1 || c.roster.ends[0] != nil {
		t.Errorf("Watch ended with %v, want nil for a goodbye", c.roster.ends)
	}
}

func TestATunnelOverTLS(t *testing.T) {
	r := newRoster()
	s := New(Config{Fleet: r})
	hs := httptest.NewTLSServer(s)
	defer hs.Close()
	defer s.Close()
	a := newFakeAgent("boot-1")
	pool := x509.NewCertPool()
	pool.AddCert(hs.Certificate())
	a.tls = &tls.Config{RootCAs: pool, ServerName: "example.com", NextProtos: []string{"http/1.1"}}
	a.dial(t, strings.TrimPrefix(hs.URL, "https://"))
	if j := r.next(t); j.ID != "boot-1" {
		t.Errorf("joined: %+v", j.Instance)
	}
}

func TestATunnelThatIsRefused(t *testing.T) {
	set := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	cases := []struct {
		name   string
		change func(*http.Request)
		want   string
	}{
		{"GET", func(r *http.Request) { r.Method = http.MethodGet }, "405 this is where agents connect: use POST with Upgrade: opscenter-agent/1"},
		{"no upgrade", func(r *http.Request) { r.Header.Del("Upgrade") }, "426 the request does not ask for Upgrade: opscenter-agent/1: a proxy in front must pass Connection and Upgrade on"},
		{"a proxy that eats Connection", set("Connection", "keep-alive"), "426 the request does not ask for Upgrade: opscenter-agent/1: a proxy in front must pass Connection and Upgrade on"},
		{"another protocol", set("Upgrade", "websocket"), "426 the request does not ask for Upgrade: opscenter-agent/1: a proxy in front must pass Connection and Upgrade on"},
		{"no version", set("Ops-Protocol", ""), `400 header Ops-Protocol is "": send the version of the agent protocol, such as 1`},
		{"version zero", set("Ops-Protocol", "0"), `400 header Ops-Protocol is "0": send the version of the agent protocol, such as 1`},
		{"a version far ahead", set("Ops-Protocol", "3"), "400 the agent speaks version 3 of the protocol and this centre 1: update the centre"},
		{"the largest version", set("Ops-Protocol", "4294967295"), "400 the agent speaks version 4294967295 of the protocol and this centre 1: update the centre"},
		{"a bad project", set("Ops-Project", "../x"), `400 project "../x" is not a valid name: use letters, digits, dot, underscore and hyphen`},
		{"no service", set("Ops-Service", ""), `400 service "" is not a valid name: use letters, digits, dot, underscore and hyphen`},
		{"a bad boot id", set("Ops-Boot-Id", "UPPER"), `400 boot id "UPPER" is not valid: use 4 to 40 of a-z, 0-9 and hyphen`},
		{"a wrong token", set("Authorization", "Bearer wrong"), "401 the token is wrong"},
		{"an authorizer that is away", set("Authorization", "Bearer broken"), "503 the authorizer is away"},
		{"a fleet that is full", set("Ops-Service", "full"), "429 the centre has 2 services, the most it takes"},
		{"a project that nobody declared", set("Ops-Project", "stranger"), "409 project stranger is not declared"},
	}
	room := func(i ops.Instance) error {
		switch {
		case i.Service == "full":
			return ops.Errorf(ops.Exhausted, "the centre has 2 services, the most it takes")
		case i.Project == "stranger":
			return ops.Errorf(ops.Denied, "project stranger is not declared")
		}
		return nil
	}
	c := newCentre(t, Config{Room: room, Authorize: func(r *http.Request) error {
		switch r.Header.Get("Authorization") {
		case "Bearer wrong":
			return ops.Errorf(ops.Denied, "the token is wrong")
		case "Bearer broken":
			return ops.Errorf(ops.Internal, "the authorizer is away")
		}
		return nil
	}})
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			tun, got := newFakeAgent("boot-1").tryDial(t, c.address, tc.change)
			if tun != nil || strings.TrimSpace(got) != tc.want {
				t.Errorf("%s\nwant: %s", got, tc.want)
			}
		})
	}
	if tun, got := newFakeAgent("boot-1").tryDial(t, c.address, set("Ops-Protocol", "2")); tun == nil {
		t.Errorf("one version ahead: %s", got)
	}
}

func TestATunnelOverHTTP2(t *testing.T) {
	s := New(Config{Fleet: newRoster()})
	r := httptest.NewRequest(http.MethodPost, Path, nil)
	r.ProtoMajor, r.ProtoMinor = 2, 0
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if want := "agents connect over HTTP/1.1: let the proxy in front speak it, or offer only http/1.1 in TLS\n"; w.Code != http.StatusHTTPVersionNotSupported || w.Body.String() != want {
		t.Errorf("%d %s\nwant: %s", w.Code, w.Body, want)
	}
}

func TestTwoVersionsRule(t *testing.T) {
	for _, c := range []struct {
		ours, theirs uint32
		want         string
	}{
		{1, 1, ""}, {1, 2, ""}, {2, 1, ""}, {5, 4, ""}, {5, 6, ""},
		{5, 3, "the agent speaks version 3 of the protocol and this centre 5: update the agent"},
		{5, 7, "the agent speaks version 7 of the protocol and this centre 5: update the centre"},
		{1, 0, "the agent speaks version 0 of the protocol and this centre 1: update the agent"},
	} {
		got := ""
		if err := compatible(c.ours, c.theirs); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("centre %d, agent %d: %q, want %q", c.ours, c.theirs, got, c.want)
		}
	}
}

// logged collects what the server logs.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) expect(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		l.mu.Lock()
		got := l.b.String()
		l.mu.Unlock()
		if strings.Contains(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("logged:\n%s\nwant: %s", got, want)
		}
	}
}

func TestAHelloThatIsRefused(t *testing.T) {
	cases := []struct {
		name   string
		change func(*agentv1.HelloResponse)
		want   string
	}{
		{"another service", func(h *agentv1.HelloResponse) { h.Service = "gateway" }, "the agent connected as color-game/user-service boot-1 and now says it is color-game/gateway boot-1"},
		{"another process", func(h *agentv1.HelloResponse) { h.BootId = "boot-2" }, "the agent connected as color-game/user-service boot-1 and now says it is color-game/user-service boot-2"},
		{"a bad name", func(h *agentv1.HelloResponse) { h.BootId = "../boot" }, "boot id \\\"../boot\\\" is not valid"},
		{"an old version", func(h *agentv1.HelloResponse) { h.Protocol = 0 }, "the agent speaks version 0 of the protocol and this centre 1: update the agent"},
		{"labels without end", func(h *agentv1.HelloResponse) {
			for i := range 65 {
				h.Labels[strings.Repeat("k", i+1)] = "v"
			}
		}, "the agent sends 66 labels: use at most 30"},
		{"a label without end", func(h *agentv1.HelloResponse) { h.Labels["a"] = strings.Repeat("v", 300) }, "label \\\"a\\\" of the agent is too long or has no name: use a name of 1 to 128 bytes and a value of at most 256"},
		{"too much of everything", func(h *agentv1.HelloResponse) { h.AgentVersion = strings.Repeat("v", maxMessage) }, "received message larger than max"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var log logged
			c := newCentre(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			a := newFakeAgent("boot-1")
			a.onHello = tc.change
			a.dial(t, c.address)
			log.expect(t, tc.want)
			select {
			case j := <-c.roster.joined:
				t.Errorf("it joined: %+v", j.Instance)
			default:
			}
		})
	}
}

// TestAnotherServiceCannotTakeAProcessOver is a peer that claims the boot id of a
// process of another service: the process keeps its link.
func TestAnotherServiceCannotTakeAProcessOver(t *testing.T) {
	c := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	t.Cleanup(a.wg.Wait)
	a.dial(t, c.address)
	process := c.roster.next(t)

	liar := newFakeAgent("boot-1")
	liar.service = "wallet-service"
	tun := liar.dial(t, c.address)
	select {
	case <-tun.closed:
	case j := <-c.roster.joined:
		t.Fatalf("%s joined with the boot id of %s", j.Key(), process.Key())
	case <-time.After(time.Minute):
		t.Fatal("the liar's tunnel was kept")
	}
	if err := process.link.Stop(t.Context(), "capture-1"); ops.KindOf(err) == ops.Unavailable {
		t.Errorf("the process lost its link: %v", err)
	}
}

func TestASecondTunnelOfTheSameProcessTakesOver(t *testing.T) {
	c := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	a.dial(t, c.address)
	first := c.roster.next(t)
	b := newFakeAgent("boot-1")
	b.dial(t, c.address)
	if second := c.roster.next(t); second.link != first.link {
		t.Error("the same process has another link now")
	}
	c.mu.Lock()
	n, users := len(c.links), c.links["boot-1"].users
	c.mu.Unlock()
	if n != 1 || users < 1 {
		t.Errorf("%d links with %d users", n, users)
	}
}

func TestLinksAreForgotten(t *testing.T) {
	c := newCentre(t, Config{})
	for range 3 {
		tun := newFakeAgent("boot-1").dial(t, c.address)
		link := c.roster.next(t).link
		tun.cut()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			c.mu.Lock()
			n := len(c.links)
			c.mu.Unlock()
			if n == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d links are kept of processes that left", n)
			}
		}
		if err := link.Stop(t.Context(), "capture-1"); err == nil || err.Error() != "instance boot-1 is not connected: try again when it is back" {
			t.Errorf("Stop: %v", err)
		}
	}
}

func TestClose(t *testing.T) {
	c := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	tun := a.dial(t, c.address)
	c.roster.next(t)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-tun.closed
	if tun, got := newFakeAgent("boot-2").tryDial(t, c.address, nil); tun != nil || strings.TrimSpace(got) != "503 the centre is shutting down: try again in a moment" {
		t.Errorf("a tunnel after Close: %s", got)
	}
	if err := c.Connect(t.Context(), ops.Target{URL: "grpc://127.0.0.1:1"}); ops.KindOf(err) != ops.Unavailable {
		t.Errorf("Connect after Close: %v", err)
	}
}

// listening serves a fake agent on its own port.
func listening(t *testing.T, a *fakeAgent, opts ...grpc.ServerOption) (address string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(opts...)
	if a != nil {
		agentv1.RegisterAgentServiceServer(srv, a)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	stop = func() { srv.Stop(); <-done }
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}

func TestConnect(t *testing.T) {
	c := newCentre(t, Config{})
	a := newFakeAgent("boot-1")
	address, stop := listening(t, a)
	target := ops.Target{Project: "p", Service: "s", Source: "static", URL: "grpc://" + address, Labels: map[string]string{"rack": "r1"}}
	done := make(chan error, 1)
	go func() { done <- c.Connect(t.Context(), target) }()
	j := c.roster.next(t)
	if j.Project != "p" || j.Service != "s" || j.Source != "static" || j.Address != target.URL || j.Labels["rack"] != "r1" || j.Labels["zone"] != "z1" {
		t.Errorf("joined: %+v", j.Instance)
	}
	if err := c.Connect(t.Context(), target); err == nil || err.Error() != "instance boot-1 is connected already" || ops.KindOf(err) != ops.Conflict {
		t.Errorf("a second Connect: %v", err)
	}
	stop()
	if err := <-done; ops.KindOf(err) != ops.Unavailable {
		t.Errorf("Connect when the process died: %v, want Unavailable", err)
	}
	if err := c.Connect(t.Context(), target); ops.KindOf(err) != ops.Unavailable {
		t.Errorf("Connect to a dead process: %v, want Unavailable", err)
	}
}

func TestConnectEndsWithItsContext(t *testing.T) {
	c := newCentre(t, Config{})
	address, _ := listening(t, newFakeAgent("boot-1"))
	ctx, drop := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Connect(ctx, ops.Target{URL: "grpc://" + address}) }()
	c.roster.next(t)
	drop(ops.Errorf(ops.NotFound, "no longer listed"))
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("Connect goes on")
	}
}

func TestConnectRefuses(t *testing.T) {
	c := newCentre(t, Config{})
	empty, _ := listening(t, nil)
	for url, want := range map[string]string{
		"http://127.0.0.1:1":            `"http://127.0.0.1:1" is not the address of an agent: write grpc://host:port or grpcs://host:port`,
		"grpc://127.0.0.1":              `"grpc://127.0.0.1" is not the address of an agent: write grpc://host:port or grpcs://host:port`,
		"grpc://169.254.169.254:80":     "address 169.254.169.254 is link-local, where clouds keep metadata and credentials: targets there are refused; list the address of the service itself",
		"grpc://[fd00:ec2::254]:80":     "address fd00:ec2::254 is a cloud's metadata service: targets there are refused; list the address of the service itself",
		"grpc://0.0.0.0:" + port(empty): "address 0.0.0.0 is not the address of one host: targets there are refused; list the address of the service itself",
		"grpc://" + empty:               "a gRPC server answers, but no agent: call agent.Register on it",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := c.Connect(ctx, ops.Target{URL: url}); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v\nwant: %s", url, err, want)
		}
		cancel()
	}
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

// asksForToken is an agent's own check, as an interceptor.
func asksForToken(token string) grpc.ServerOption {
	return grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if got := md.Get("authorization"); len(got) != 1 || got[0] != "Bearer "+token {
			return nil, status.Errorf(codes.Unauthenticated, "the bearer token is missing or wrong (%d sent)", len(got))
		}
		return handler(ctx, req)
	})
}

func TestTheTokenGoesOverTLSOnly(t *testing.T) {
	hs := httptest.NewTLSServer(nil) // for its certificate
	hs.Close()
	pool := x509.NewCertPool()
	pool.AddCert(hs.Certificate())
	plain, _ := listening(t, newFakeAgent("boot-1"), asksForToken("secret"))
	secure, _ := listening(t, newFakeAgent("boot-2"), asksForToken("secret"), grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: hs.TLS.Certificates})))
	cases := []struct {
		name, url string
		cfg       Config
		want      string // empty = it joins
	}{
		{"no token", "grpc://" + plain, Config{}, "the agent refuses the centre (the bearer token is missing or wrong (0 sent)): give the centre the token that OPS_AGENT_TOKEN has in the service"},
		{"in plaintext", "grpc://" + plain, Config{Token: "secret"}, "the agent refuses the centre (the bearer token is missing or wrong (0 sent)): check the token; it is sent over TLS only, so use grpcs:// or allow it in plaintext"},
		{"in plaintext, allowed", "grpc://" + plain, Config{Token: "secret", PlaintextToken: true}, ""},
		{"over TLS", "grpcs://" + secure, Config{Token: "secret", TLS: &tls.Config{RootCAs: pool, ServerName: "example.com"}}, ""},
		{"wrong over TLS", "grpcs://" + secure, Config{Token: "guess", TLS: &tls.Config{RootCAs: pool, ServerName: "example.com"}}, "the agent refuses the centre (the bearer token is missing or wrong (1 sent)): check the token; it is sent over TLS only, so use grpcs:// or allow it in plaintext"},
		{"a certificate nobody vouches for", "grpcs://" + secure, Config{Token: "secret"}, "certificate"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := newCentre(t, tc.cfg)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- c.Connect(ctx, ops.Target{Project: "p", Service: "s", URL: tc.url}) }()
			select {
			case <-c.roster.joined:
				if tc.want != "" {
					t.Error("it joined")
				}
			case err := <-done:
				if tc.want == "" || err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%v\nwant: %s", err, tc.want)
				}
				done <- err
			}
			cancel()
			<-done
		})
	}
}
