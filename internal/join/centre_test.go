package join_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/agentlink"
	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/join"
	"github.com/opscenter/opscenter/internal/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger is a record in memory.
type ledger struct {
	mu   sync.Mutex
	rows []string // "action subject result"
	text strings.Builder
	full bool
}

func (l *ledger) Repeated(context.Context, audit.Intent) (audit.Action, error) { return nil, nil }

func (l *ledger) Begin(_ context.Context, in audit.Intent) (audit.Action, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full {
		return nil, ops.Errorf(ops.Exhausted, "the disk is full")
	}
	l.text.Write(in.Request)
	return &row{ledger: l, in: in}, nil
}

func (l *ledger) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.rows {
		if strings.Contains(r, part) {
			return true
		}
	}
	return false
}

type row struct {
	*ledger
	in audit.Intent
}

func (*row) ID() audit.ID                           { return "" }
func (*row) First() (*audit.Outcome, []audit.Step)  { return nil, nil }
func (*row) Step(context.Context, audit.Step) error { return nil }
func (r *row) End(_ context.Context, out audit.Outcome) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, r.in.Action+" "+r.in.Subject+" "+string(out.Result)+" "+out.Message)
	return nil
}

// clock is time.Now, moved.
type clock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return time.Now().Add(c.off) }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}

// roster is a fleet that only knows who is there.
type roster struct{ joined chan ops.Instance }

func (r *roster) Join(ctx context.Context, i ops.Instance, _ ops.Link) error {
	r.joined <- i
	<-ctx.Done() // the centre ends
	return ctx.Err()
}

// centre is one that agents join.
type centre struct {
	t      testing.TB
	dir    string
	clock  *clock
	ledger *ledger
	gate   *join.Gate // changed by open, under mu
	server *httptest.Server

	mu     sync.Mutex   // guards all below
	tunnel http.Handler // nil = 204 for who is admitted
	said   strings.Builder
}

func (c *centre) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.Write(p)
}

func newCentre(t testing.TB, change func(*join.Config)) *centre {
	t.Helper()
	c := &centre{t: t, dir: t.TempDir(), clock: &clock{}, ledger: &ledger{}}
	c.open(change)
	c.server = httptest.NewUnstartedServer(http.HandlerFunc(c.serve))
	c.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	c.server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, NextProtos: []string{"http/1.1"}}
	c.server.StartTLS()
	t.Cleanup(c.server.Close)
	return c
}

func (c *centre) open(change func(*join.Config)) {
	c.t.Helper()
	cfg := join.Config{Dir: c.dir, Record: c.ledger, Now: c.clock.now, Logger: slog.New(slog.NewTextHandler(c, nil))}
	if change != nil {
		change(&cfg)
	}
	gate, err := join.Open(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gate = gate
}

func (c *centre) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	gate, tunnel := c.gate, c.tunnel
	c.mu.Unlock()
	switch r.URL.Path {
	case join.Path:
		gate.ServeHTTP(w, r)
	case agentlink.Path:
		_, shown, err := gate.Admit(r)
		if err == nil && !shown {
			err = gate.RefusedWithout(r)
		}
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusUnauthorized)
		case tunnel != nil:
			tunnel.ServeHTTP(w, r)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}
}

func (c *centre) token(r join.TokenRequest) (string, join.Token) {
	c.t.Helper()
	secret, t, err := c.gate.Create(c.t.Context(), "user:ann", r)
	if err != nil {
		c.t.Fatal(err)
	}
	return secret, t
}

// pin is that of the server's own certificate.
func (c *centre) pin() string {
	sum := sha256.Sum256(c.server.Certificate().RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// guest is an agent reduced to joining, for what an honest one does not do.
type guest struct {
	project, service, instance string
	key                        *ecdsa.PrivateKey
	cert                       *tls.Certificate
}

func newGuest() *guest {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return &guest{project: "color-game", service: "user-service", instance: "boot-0001", key: key}
}

// letter is the request as it goes over the wire.
type letter struct {
	Version  int    `json:"version"`
	Method   string `json:"method"`
	Project  string `json:"project"`
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Token    string `json:"token"`
	CSR      []byte `json:"csr"`
	Proof    []byte `json:"proof"`
}

func (g *guest) dial(c *centre) *tls.Conn {
	c.t.Helper()
	conf := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	if g.cert != nil {
		conf.Certificates = []tls.Certificate{*g.cert}
	}
	conn, err := tls.Dial("tcp", c.server.Listener.Addr().String(), conf)
	if err != nil {
		c.t.Fatal(err)
	}
	return conn
}

func (g *guest) letter(c *centre, conn *tls.Conn, method, token string) letter {
	c.t.Helper()
	name := &url.URL{Scheme: "spiffe", Host: "ops-center", Path: "/agent/" + g.project + "/" + g.service + "/" + g.instance}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{name}}, g.key)
	if err != nil {
		c.t.Fatal(err)
	}
	state := conn.ConnectionState()
	number, err := state.ExportKeyingMaterial("EXPORTER-opscenter-join", nil, 32)
	if err != nil {
		c.t.Fatal(err)
	}
	sum := sha256.Sum256(number)
	proof, err := ecdsa.SignASN1(rand.Reader, g.key, sum[:])
	if err != nil {
		c.t.Fatal(err)
	}
	return letter{1, method, g.project, g.service, g.instance, token, csr, proof}
}

func send(c *centre, conn net.Conn, l letter) (int, []byte) {
	c.t.Helper()
	defer conn.Close()
	body, err := json.Marshal(l)
	if err != nil {
		c.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "https://centre"+join.Path, bytes.NewReader(body))
	if err == nil {
		err = req.Write(conn)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, b
}

// join asks for a certificate and keeps it; what the centre says against it is
// returned.
func (g *guest) join(c *centre, method, token string) string {
	c.t.Helper()
	conn := g.dial(c)
	code, body := send(c, conn, g.letter(c, conn, method, token))
	if code != http.StatusOK {
		return strings.TrimSpace(string(body))
	}
	var got struct {
		Certificate []byte `json:"certificate"`
		LifeSeconds int64  `json:"life_seconds"`
	}
	if err := json.Unmarshal(body, &got); err != nil || got.LifeSeconds != 24*60*60 {
		c.t.Fatalf("%v: %s", err, body)
	}
	g.cert = &tls.Certificate{Certificate: [][]byte{got.Certificate}, PrivateKey: g.key}
	return ""
}

// open opens a tunnel as far as being let in.
func (g *guest) open(c *centre) string {
	c.t.Helper()
	conn := g.dial(c)
	defer conn.Close()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "https://centre"+agentlink.Path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Ops-Project", g.project)
	req.Header.Set("Ops-Service", g.service)
	req.Header.Set("Ops-Boot-Id", g.instance)
	if err := req.Write(conn); err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		c.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusNoContent {
		return ""
	}
	return strings.TrimSpace(string(b))
}
