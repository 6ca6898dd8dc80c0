package agent

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

func TestHelloThroughTheTunnel(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCentre(t, "127.0.0.1:0", "/ops")
	a := startTest(t, func(cfg *Config, _ *tuning) {
		cfg.Center = "http://" + c.addr + "/ops/"
		cfg.TokenFile = token
		cfg.Labels = map[string]string{"zone": "b"}
	})
	tun := c.accept()
	for name, want := range map[string]string{
		"Ops-Protocol": "1", "Ops-Project": "color-game", "Ops-Service": "user-service",
		"Ops-Boot-Id": a.BootID(), "Authorization": "Bearer s3cret",
	} {
		if got := tun.header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	h, err := tun.Hello(t.Context(), &agentv1.HelloRequest{Protocol: 1, CenterVersion: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if h.Protocol != 1 || h.BootId != a.BootID() || !captureIDPattern.MatchString(h.BootId) || h.Project != "color-game" || h.Service != "user-service" || h.Labels["zone"] != "b" {
		t.Errorf("hello %v", h)
	}
	if h.Build.GoVersion == "" || h.Build.BuildId == "" || h.Process.Pid != int32(os.Getpid()) || h.Process.Gomaxprocs < 1 || h.Process.Hostname == "" || h.Process.Gogc != 100 {
		t.Errorf("build %v, process %v", h.Build, h.Process)
	}
	if since := time.Since(h.Process.StartTime.AsTime()); since < 0 || since > time.Hour {
		t.Errorf("the process says it started %v ago", since)
	}
	if len(h.Kinds) < 9 || h.Limits.MaxDuration.AsDuration() != 10*time.Minute || h.Limits.MaxConcurrentCaptures != 2 {
		t.Errorf("kinds %v, limits %v", h.Kinds, h.Limits)
	}
}

func TestAgentComesBack(t *testing.T) {
	c := newCentre(t, "127.0.0.1:0", "")
	a := startTest(t, func(cfg *Config, _ *tuning) { cfg.Center = c.addr })
	for range 3 {
		tun := c.accept()
		if _, err := tun.Hello(t.Context(), &agentv1.HelloRequest{Protocol: 1}); err != nil {
			t.Fatal(err)
		}
		if got := tun.header.Get("Ops-Boot-Id"); got != a.BootID() {
			t.Errorf("came back as %s, was %s", got, a.BootID())
		}
		_ = tun.conn.Close()
	}
}

// A connection that lives while no one at its other end does is given up.
func TestIdleTunnelIsGivenUp(t *testing.T) {
	c := newCentre(t, "127.0.0.1:0", "")
	startTest(t, func(cfg *Config, tune *tuning) { cfg.Center = c.addr; tune.idleTunnel = 100 * time.Millisecond })
	c.accept()
	var stream grpc.ServerStreamingClient[agentv1.WatchMetricsResponse]
	for tries := 0; ; tries++ { // it dials again, and waits for no slow machine
		var err error
		if stream, err = c.accept().WatchMetrics(t.Context(), &agentv1.WatchMetricsRequest{Interval: durationpb.New(time.Second)}); err == nil {
			if _, err = stream.Recv(); err == nil {
				break
			}
		}
		if tries == 100 {
			t.Fatal(err)
		}
	}
	for range 2 { // for longer than the idle time
		if _, err := stream.Recv(); err != nil {
			t.Fatalf("a tunnel with a watch was given up: %v", err)
		}
	}
}

func TestCentreThatRefuses(t *testing.T) {
	var log lockedBuffer
	c := newCentre(t, "127.0.0.1:0", "")
	refused := make(chan struct{}, 100)
	c.refuse = func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "no agent without a token", http.StatusUnauthorized)
		refused <- struct{}{}
		return true
	}
	startTest(t, func(cfg *Config, _ *tuning) {
		cfg.Center = c.addr
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	for range 3 {
		select {
		case <-refused:
		case <-time.After(time.Minute):
			t.Fatal("the agent does not try again")
		}
	}
	eventually(t, "the refusal is logged", func() bool { return log.String() != "" })
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "the centre refused this agent (401 Unauthorized): no agent without a token; check OPS_TOKEN_FILE") {
		t.Errorf("log:\n%s", got)
	}
}

// Whatever answers at the centre's address is bounded and ends in an error.
func TestAnswersThatAreNone(t *testing.T) {
	a := startTest(t, listening)
	a.cfg.center, _ = parseCenter("http://centre.example")
	for name, answer := range map[string]string{
		"nothing":      "",
		"not HTTP":     "SSH-2.0-OpenSSH_9.2\r\n",
		"half":         "HTTP/1.1 101 Switching Protocols\r\nUpgra",
		"endless":      "HTTP/1.1 101 Switching Protocols\r\nX: " + strings.Repeat("x", 1<<20) + "\r\nUpgrade: opscenter-agent/1\r\n\r\n",
		"many headers": "HTTP/1.1 101 Switching Protocols\r\n" + strings.Repeat("X: y\r\n", 1<<18) + "Upgrade: opscenter-agent/1\r\n\r\n",
		"no upgrade":   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
	} {
		t.Run(name, func(t *testing.T) {
			mine, theirs := net.Pipe()
			var other sync.WaitGroup
			other.Go(func() {
				if _, err := http.ReadRequest(bufio.NewReader(theirs)); err != nil {
					t.Error(err)
				}
				_, _ = theirs.Write([]byte(answer)) // the agent may have had enough
				_ = theirs.Close()
			})
			conn, err := a.upgrade(mine, "")
			if err == nil {
				t.Error("it was taken for a tunnel")
				_ = conn.Close()
			}
			_ = mine.Close()
			other.Wait()
		})
	}
}

// Bytes that the centre sends right behind its answer are not lost.
func TestBytesBehindTheAnswer(t *testing.T) {
	a := startTest(t, listening)
	a.cfg.center, _ = parseCenter("http://centre.example")
	mine, theirs := net.Pipe()
	defer func() { _ = mine.Close() }()
	long := strings.Repeat("0123456789", 20<<10)
	var other sync.WaitGroup
	defer other.Wait()
	other.Go(func() {
		_, _ = http.ReadRequest(bufio.NewReader(theirs))
		_, _ = theirs.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: opscenter-agent/1\r\n\r\n" + long))
		_ = theirs.Close()
	})
	conn, err := a.upgrade(mine, "")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != long {
		t.Errorf("%d bytes of %d, %v", len(got), len(long), err)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestBadTokenFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, file := range []string{write("empty", "\n"), write("two", "one two"), write("header", "a\r\nX: y"), filepath.Join(dir, "absent")} {
		if token, err := readToken(file); err == nil {
			t.Errorf("%s gives %q", file, token)
		}
	}
	if token, err := readToken(write("good", " abc \n")); err != nil || token != "abc" {
		t.Errorf("%q, %v", token, err)
	}
}

func TestGoodbyeEndsTheWatchWithOK(t *testing.T) {
	a, client := joined(t, nil)
	stream, err := client.WatchMetrics(t.Context(), &agentv1.WatchMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > goodbyeWithin+30*time.Second {
		t.Errorf("Close took %v", took)
	}
	wantEOF(t, stream)
}

func TestBackoff(t *testing.T) {
	for _, tc := range []struct {
		attempt   int
		random    float64
		least, at time.Duration
	}{
		{0, 0, 50 * time.Millisecond, 50 * time.Millisecond},
		{0, 1, 500 * time.Millisecond, 500 * time.Millisecond},
		{3, 1, 4 * time.Second, 4 * time.Second},
		{6, 1, 30 * time.Second, 30 * time.Second},
		{1000, 0.5, 16500 * time.Millisecond, 16500 * time.Millisecond},
	} {
		if got := backoff(tc.attempt, 500*time.Millisecond, 30*time.Second, tc.random); got != tc.at {
			t.Errorf("attempt %d, random %v: %v, want %v", tc.attempt, tc.random, got, tc.at)
		}
	}
}

// TestThousandsComeBackSpread follows the schedules of agents that lose their centre
// in one instant: nobody waits, the times are those at which they would dial.
func TestThousandsComeBackSpread(t *testing.T) {
	for _, tc := range []struct {
		away          time.Duration
		busiest, last string // share of all that dial in the busiest second from its return on; until the last one is back
	}{
		{100 * time.Millisecond, "100 %", "1s"}, // nobody notices: at once, but one by one
		{2 * time.Second, "55 %", "8s"},
		{10 * time.Second, "15 %", "30s"},
		{time.Minute, "7 %", "30s"},
		{time.Hour, "6 %", "30s"},
	} {
		tune := defaultTuning()
		random := mathrand.New(mathrand.NewPCG(1, 2)) //nolint:gosec // the same every time
		const agents = 3000
		bySecond, last := map[int]int{}, time.Duration(0)
		for range agents {
			again := redial{base: tune.backoffBase, most: tune.backoffMax, random: random.Float64}
			at := again.after(true, time.Hour)
			for at < tc.away {
				at += again.after(false, 0)
			}
			bySecond[int((at-tc.away)/time.Second)]++
			last = max(last, at-tc.away)
		}
		busiest := 0
		for _, n := range bySecond {
			busiest = max(busiest, n)
		}
		if got := fmt.Sprintf("%.0f %%", 100*float64(busiest)/agents); got != tc.busiest || last.Round(time.Second).String() != tc.last {
			t.Errorf("away for %v: %s in the busiest second, want %s; the last after %v, want %s", tc.away, got, tc.busiest, last.Round(time.Second), tc.last)
		}
	}
}

// authority is a CA with one certificate for localhost.
type authority struct {
	caKey, leafKey []byte // SubjectPublicKeyInfo
	chain          tls.Certificate
}

func newAuthority(t *testing.T, host string) authority {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, NotAfter: time.Now().Add(time.Hour)}
	if ip := net.ParseIP(host); ip != nil {
		leaf.IPAddresses = []net.IP{ip}
	} else {
		leaf.DNSNames = []string{host}
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	parse := func(der []byte) []byte {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		return sum[:]
	}
	return authority{parse(caDER), parse(leafDER), tls.Certificate{Certificate: [][]byte{leafDER, caDER}, PrivateKey: key}}
}

func TestPinnedTLS(t *testing.T) {
	right, other := newAuthority(t, "127.0.0.1"), newAuthority(t, "elsewhere.example")
	for _, tc := range []struct {
		name string
		cert tls.Certificate
		pin  string
		ok   bool
	}{
		{"CA in hex", right.chain, hex.EncodeToString(right.caKey), true},
		{"CA in base64", right.chain, "sha256//" + base64.StdEncoding.EncodeToString(right.caKey), true},
		{"the centre's own key", right.chain, "sha256:" + hex.EncodeToString(right.leafKey), true},
		{"the centre's own key under another name", other.chain, hex.EncodeToString(other.leafKey), true},
		{"CA, but another name", other.chain, hex.EncodeToString(other.caKey), false},
		{"another CA", right.chain, hex.EncodeToString(other.caKey), false},
		{"no pin and an unknown CA", right.chain, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &centre{t: t, tunnels: make(chan *tunnelled, 16)}
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{tc.cert}, NextProtos: []string{"h2", "http/1.1"}})
			if err != nil {
				t.Fatal(err)
			}
			c.server = &http.Server{Handler: c, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
			c.conns.Go(func() { _ = c.server.Serve(l) })
			t.Cleanup(c.close)
			var log lockedBuffer
			startTest(t, func(cfg *Config, _ *tuning) {
				cfg.Center = "https://" + l.Addr().String()
				cfg.CAPin = tc.pin
				cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			})
			if !tc.ok {
				eventually(t, "the refusal is logged", func() bool { return strings.Contains(log.String(), "TLS with the centre") })
				return
			}
			tun := c.accept()
			if p := tun.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; p != "http/1.1" {
				t.Errorf("ALPN %q", p)
			}
			if _, err := tun.Hello(t.Context(), &agentv1.HelloRequest{Protocol: 1}); err != nil {
				t.Error(err)
			}
		})
	}
}
