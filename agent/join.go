package agent

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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// joinTokenPrefix tells a join token, which buys a certificate, from the shared
// token, which is shown with every dial.
const joinTokenPrefix = "opsj_"

const (
	joinPath        = "/opscenter.agent.v1/join"
	joinVersion     = 1
	joinExporter    = "EXPORTER-opscenter-join"
	joinWithin      = 20 * time.Second
	maxJoinAnswer   = 64 << 10
	joinByToken     = "token"
	joinByCluster   = "kubernetes"
	joinByRenewal   = "renewal"
	clockWorthAWord = 5 * time.Minute
)

// joinRequest asks the centre for a certificate.
type joinRequest struct {
	Version  int    `json:"version"`
	Method   string `json:"method"`
	Project  string `json:"project"`
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Token    string `json:"token,omitempty"`
	CSR      []byte `json:"csr"`
	// Proof is the new key's signature of a number that only this connection has.
	Proof []byte `json:"proof"`
}

type joinAnswer struct {
	Certificate []byte    `json:"certificate"`
	LifeSeconds int64     `json:"life_seconds"`
	Now         time.Time `json:"now"`
	// Pins are what the centre is known by from now on, while its authority is
	// replaced and after; empty = as before.
	Pins []string `json:"pins"`
}

// issued is a certificate and how long it is good. The clock of the machine has
// no part in it: the centre says how long, and the time since is measured.
type issued struct {
	cert *tls.Certificate
	at   time.Time // with a monotonic reading
	life time.Duration
}

func (i issued) good(now time.Time) bool { return i.cert != nil && now.Sub(i.at) < i.life }

// joinMethod says how this agent gets a certificate with what its token file
// holds now; "" = it does not, and shows the token as it is.
func (a *Agent) joinMethod(token string) (string, error) {
	method := ""
	switch {
	case a.cfg.joinBy != "":
		method = a.cfg.joinBy
	case strings.HasPrefix(token, joinTokenPrefix):
		method = joinByToken
	default:
		return "", nil
	}
	if a.cfg.center.Scheme != "https" {
		return "", errors.New("an agent joins over TLS only: use an https address for OPS_CENTER, or the centre's shared token")
	}
	return method, nil
}

// credential returns what to show when the tunnel is opened: a certificate, made
// now if there is none that is good, or a token, or neither.
func (a *Agent) credential() (cert *tls.Certificate, token string, err error) {
	if i := a.join.current(); i.good(time.Now()) {
		return i.cert, "", nil // the token may be gone: it was for joining
	}
	token, err = readToken(a.cfg.tokenFile)
	method, merr := a.joinMethod(token)
	if merr != nil {
		return nil, "", merr
	}
	if method == "" && a.cfg.stateDir == "" {
		return nil, token, err
	}
	if i, ok := a.joinWithKept(); ok {
		return i.cert, "", nil
	}
	if err != nil || method == "" {
		return nil, token, err
	}
	ctx, cancel := context.WithTimeout(a.ctx, joinWithin)
	defer cancel()
	i, err := a.ask(ctx, method, token, nil)
	if err != nil {
		return nil, "", err
	}
	a.joined(i)
	return i.cert, "", nil
}

// joinWithKept asks with the certificate that an earlier process left.
func (a *Agent) joinWithKept() (issued, bool) {
	if a.cfg.center.Scheme != "https" {
		return issued{}, false
	}
	kept := a.join.takeKept(a.stateFile())
	if kept == nil {
		return issued{}, false
	}
	ctx, cancel := context.WithTimeout(a.ctx, joinWithin)
	defer cancel()
	i, err := a.ask(ctx, joinByRenewal, "", kept)
	if err != nil {
		a.log.Info("the kept certificate is of no use any more", slog.Any("reason", err))
		return issued{}, false
	}
	a.joined(i)
	return i, true
}

// joined takes a new certificate and sees to it that the next one comes in time.
func (a *Agent) joined(i issued) {
	first := a.join.put(i)
	if err := a.keepCertificate(i); err != nil {
		a.log.Warn("the certificate could not be kept for the next start", slog.Any("error", err))
	}
	a.log.Info("joined by certificate", slog.Duration("for", i.life))
	if first {
		a.spawn("certificate renewal", func() {
			renewal{current: a.join.current, changed: a.join.changed, renew: a.renew, log: a.log}.run(a.ctx)
		})
	}
}

// renew replaces the certificate while the tunnel stays as it is.
func (a *Agent) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	method, token := joinByRenewal, ""
	now := a.join.current()
	if !now.good(time.Now()) {
		var err error
		if token, err = readToken(a.cfg.tokenFile); err != nil {
			return err
		}
		if method, err = a.joinMethod(token); err != nil {
			return err
		}
		if method == "" {
			return errors.New("the certificate has ended and there is no join token: put one into the file that OPS_TOKEN_FILE names")
		}
		now.cert = nil
	}
	i, err := a.ask(ctx, method, token, now.cert)
	if err == nil {
		a.joined(i)
	}
	return err
}

// ask makes a key and has the centre certify it. Nothing is sent before the
// centre has proved who it is.
func (a *Agent) ask(ctx context.Context, method, token string, show *tls.Certificate) (issued, error) {
	i, err := a.exchange(ctx, method, token, show)
	if err != nil {
		return i, fmt.Errorf("joining the centre: %w", err)
	}
	return i, nil
}

func (a *Agent) exchange(ctx context.Context, method, token string, show *tls.Certificate) (issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return issued{}, err
	}
	name := &url.URL{Scheme: "spiffe", Host: "ops-center", Path: "/agent/" + a.cfg.project + "/" + a.cfg.service + "/" + a.self.bootID}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{name}}, key)
	if err != nil {
		return issued{}, err
	}
	conn, err := a.dialJoin(ctx, show)
	if err != nil {
		return issued{}, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	state := conn.ConnectionState()
	number, err := state.ExportKeyingMaterial(joinExporter, nil, sha256.Size)
	if err != nil {
		return issued{}, err
	}
	sum := sha256.Sum256(number)
	proof, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		return issued{}, err
	}
	body, err := json.Marshal(joinRequest{
		Version: joinVersion, Method: method, Project: a.cfg.project, Service: a.cfg.service, Instance: a.self.bootID,
		Token: token, CSR: csr, Proof: proof,
	})
	if err != nil {
		return issued{}, err
	}
	got, err := a.post(conn, body)
	if err != nil {
		return issued{}, err
	}
	leaf, err := x509.ParseCertificate(got.Certificate)
	if err != nil {
		return issued{}, fmt.Errorf("the centre's certificate for this agent: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) || len(leaf.URIs) != 1 || leaf.URIs[0].String() != name.String() || got.LifeSeconds < 1 {
		return issued{}, errors.New("the centre certified something else than was asked for")
	}
	a.compareClocks(got.Now)
	a.learnPins(got.Pins)
	return issued{
		cert: &tls.Certificate{Certificate: [][]byte{got.Certificate}, PrivateKey: key, Leaf: leaf},
		at:   time.Now(), life: time.Duration(got.LifeSeconds) * time.Second,
	}, nil
}

// dialJoin connects, checks who the centre is, and shows a certificate if there
// is one.
func (a *Agent) dialJoin(ctx context.Context, show *tls.Certificate) (*tls.Conn, error) {
	dialled, err := (&net.Dialer{Timeout: dialWithin}).DialContext(ctx, "tcp", a.cfg.center.Host)
	if err != nil {
		return nil, err
	}
	conf := tlsConfig(a.cfg.center.Hostname(), a.pins()...)
	conf.MinVersion = tls.VersionTLS13 // for the number of the connection
	showing(conf, show)
	conn := tls.Client(dialled, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = dialled.Close()
		return nil, fmt.Errorf("TLS with the centre: %w", err)
	}
	return conn, nil
}

// showing has the certificate shown whatever the other side says it would like.
func showing(c *tls.Config, cert *tls.Certificate) {
	if cert != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
}

func (a *Agent) post(conn net.Conn, body []byte) (joinAnswer, error) {
	u := a.cfg.center
	req := &http.Request{
		Method: http.MethodPost,
		URL:    &url.URL{Path: strings.TrimSuffix(u.Path, tunnelPath) + joinPath},
		Host:   u.Host,
		Header: http.Header{"Content-Type": {"application/json"}, "User-Agent": {"opscenter-agent/" + agentVersion}},
		Body:   io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Close: true,
	}
	if err := req.Write(conn); err != nil {
		return joinAnswer{}, fmt.Errorf("asking the centre for a certificate: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxJoinAnswer)), req)
	if err != nil {
		return joinAnswer{}, fmt.Errorf("the centre's answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return joinAnswer{}, refusal(resp)
	}
	var got joinAnswer
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		return joinAnswer{}, fmt.Errorf("the centre's answer: %w", err)
	}
	return got, nil
}

// compareClocks tells the operator of a clock that is off. It does no harm here,
// but times in captures and logs will not fit together.
func (a *Agent) compareClocks(center time.Time) {
	if d := time.Since(center).Round(time.Second); d.Abs() > clockWorthAWord {
		word := "ahead of"
		if d < 0 {
			word = "behind"
		}
		a.log.Warn("this machine's clock is "+d.Abs().String()+" "+word+" the centre's: set it by NTP", slog.Duration("off", d))
	}
}
