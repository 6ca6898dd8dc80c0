package cli

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/ops"
)

const defaultServer = "http://127.0.0.1:8080"

// callTimeout bounds one call. Downloads and uploads have none: they take what
// they take.
const callTimeout = 30 * time.Second

// client speaks to one centre. It uses the Connect protocol over whatever HTTP
// the URL offers (1.1 in the clear, 2 under TLS), so that it passes every proxy
// that a browser passes.
type client struct {
	base     string // without a trailing slash
	http     *http.Client
	fleet    apiv1connect.FleetServiceClient
	captures apiv1connect.CaptureServiceClient
	console  apiv1connect.ConsoleServiceClient
	controls apiv1connect.ControlServiceClient
	notify   apiv1connect.NotifyServiceClient
	triggers apiv1connect.TriggerServiceClient
	access   apiv1connect.AccessServiceClient
	join     apiv1connect.JoinServiceClient

	discovery apiv1connect.DiscoveryServiceClient

	slow apiv1connect.ControlServiceClient // its calls take what they take
}

func (p *program) client() (*client, error) {
	base, err := p.serverURL()
	if err != nil {
		return nil, err
	}
	token, err := p.token()
	if err != nil {
		return nil, err
	}
	login, err := p.loginFor(base)
	if err != nil {
		return nil, err
	}
	if token == "" {
		token = login.Token
	}
	tlsConfig, err := pinned(base, login.Pin)
	if err != nil {
		return nil, err
	}
	c := &client{base: base}
	c.http = &http.Client{Transport: &transport{
		token: token,
		next: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
			TLSClientConfig:     tlsConfig,
			ForceAttemptHTTP2:   true,
		},
	}}
	opts := []connect.ClientOption{connect.WithInterceptors(connect.UnaryInterceptorFunc(c.intercept))}
	c.fleet = apiv1connect.NewFleetServiceClient(c.http, base, opts...)
	c.captures = apiv1connect.NewCaptureServiceClient(c.http, base, opts...)
	c.console = apiv1connect.NewConsoleServiceClient(c.http, base, opts...)
	c.controls = apiv1connect.NewControlServiceClient(c.http, base, opts...)
	c.notify = apiv1connect.NewNotifyServiceClient(c.http, base, opts...)
	c.triggers = apiv1connect.NewTriggerServiceClient(c.http, base, opts...)
	c.access = apiv1connect.NewAccessServiceClient(c.http, base, opts...)
	c.discovery = apiv1connect.NewDiscoveryServiceClient(c.http, base, opts...)
	c.join = apiv1connect.NewJoinServiceClient(c.http, base, opts...)
	c.slow = apiv1connect.NewControlServiceClient(c.http, base)
	return c, nil
}

// close drops idle connections.
func (c *client) close() { c.http.CloseIdleConnections() }

// url is an address of the centre; path has no leading slash.
func (c *client) url(path string) string { return c.base + "/" + strings.TrimPrefix(path, "/") }

func (p *program) serverURL() (string, error) {
	from, s := "--server", p.server
	if s == "" {
		from, s = "OPS_SERVER", p.Getenv("OPS_SERVER")
	}
	if s == "" {
		return defaultServer, nil
	}
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		if u != nil {
			s = u.Redacted()
		}
		return "", ops.Errorf(ops.Invalid, "%s %q is not the URL of a centre: use one such as %s or https://ops.example.com/ops", from, s, defaultServer)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func (p *program) projectName() string {
	if p.project != "" {
		return p.project
	}
	return p.Getenv("OPS_PROJECT")
}

// inProject reports whether what is of a project is asked for.
func (p *program) inProject(name string) bool {
	want := p.projectName()
	return want == "" || want == name
}

func (p *program) token() (string, error) {
	if p.tokenFile == "" {
		return strings.TrimSpace(p.Getenv("OPS_TOKEN")), nil
	}
	b, err := os.ReadFile(p.tokenFile)
	if err != nil {
		return "", ops.Errorf(ops.Invalid, "--token-file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", ops.Errorf(ops.Invalid, "--token-file %s is empty: it should hold the centre's shared token", p.tokenFile)
	}
	return token, nil
}

// transport sends the token, and turns the plain-text refusals of what stands
// before the API into errors that a user may read.
type transport struct {
	token string
	next  *http.Transport
}

func (t *transport) CloseIdleConnections() { t.next.CloseIdleConnections() }

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+t.token)
	}
	res, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	// A TLS port that is spoken to in the clear answers without a type.
	if typ := res.Header.Get("Content-Type"); typ != "" && !strings.HasPrefix(typ, "text/plain") {
		return res, nil
	}
	kind, known := map[int]ops.ErrorKind{
		http.StatusUnauthorized: ops.Denied, http.StatusForbidden: ops.Denied, http.StatusMisdirectedRequest: ops.Invalid,
	}[res.StatusCode]
	if !known && res.StatusCode != http.StatusBadRequest {
		return res, nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	res.Body.Close()
	if err != nil {
		return nil, err
	}
	said := strings.TrimSpace(string(text))
	switch {
	case known && said != "":
		return nil, ops.Errorf(kind, "%s", said)
	case strings.Contains(said, "HTTP request to an HTTPS server"):
		return nil, ops.Errorf(ops.Invalid, "the centre speaks TLS: use https:// in --server")
	}
	return nil, ops.Errorf(ops.Internal, "the server answered %q", res.Status)
}

// intercept bounds every call and explains its error.
func (c *client) intercept(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		res, err := next(ctx, req)
		if err != nil {
			return nil, c.explain(ctx, err)
		}
		return res, nil
	}
}

var kinds = map[connect.Code]ops.ErrorKind{
	connect.CodeNotFound: ops.NotFound, connect.CodeInvalidArgument: ops.Invalid, connect.CodeOutOfRange: ops.Invalid,
	connect.CodeFailedPrecondition: ops.Conflict, connect.CodeAlreadyExists: ops.Conflict, connect.CodeAborted: ops.Conflict,
	connect.CodeUnavailable: ops.Unavailable, connect.CodeDeadlineExceeded: ops.Unavailable, connect.CodeResourceExhausted: ops.Exhausted,
	connect.CodePermissionDenied: ops.Denied, connect.CodeUnauthenticated: ops.Denied, connect.CodeDataLoss: ops.Corrupt,
	connect.CodeCanceled: ops.Cancelled,
}

// explain turns what went wrong on the way to the centre, or what it answered,
// into one sentence and its kind.
func (c *client) explain(ctx context.Context, err error) error {
	var (
		own       *ops.Error
		wire      *connect.Error
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		dns       *net.DNSError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	case errors.Is(context.Cause(ctx), errInterrupted):
		return errInterrupted
	case errors.Is(err, context.Canceled):
		return ops.Errorf(ops.Cancelled, "the call to %s was given up", c.base)
	case errors.Is(err, syscall.ECONNREFUSED) && c.base == defaultServer:
		return ops.Errorf(ops.Unavailable, "no centre is running at %s: start it with `ops serve`, or say where it is with --server or OPS_SERVER", c.base)
	case errors.Is(err, syscall.ECONNREFUSED):
		return ops.Errorf(ops.Unavailable, "no centre is running at %s: start it there, or correct --server or OPS_SERVER", c.base)
	case errors.As(err, &dns):
		return ops.Errorf(ops.Unavailable, "no such host as %s: correct --server or OPS_SERVER", dns.Name)
	case errors.As(err, &authority):
		return ops.Errorf(ops.Unavailable, "the certificate of %s is signed by no one this machine trusts: set SSL_CERT_FILE to its CA's certificate, or give the pin that the centre printed to `ops login --pin`", c.base)
	case errors.As(err, &hostname):
		return ops.Errorf(ops.Unavailable, "the certificate of %s is for another name (%w): use the name it was made for", c.base, hostname)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return ops.Errorf(ops.Invalid, "%s does not speak TLS: use http:// in --server", c.base)
	case errors.As(err, &wire) && connect.IsWireError(err):
		kind, ok := kinds[wire.Code()]
		if !ok {
			kind = ops.Internal
		}
		return ops.Errorf(kind, "%s", wire.Message())
	case errors.As(err, &wire) && wire.Code() == connect.CodeUnimplemented:
		return ops.Errorf(ops.Invalid, "%s answers, but not as a centre: is --server complete with its base path (%s/ops)?", c.base, c.base)
	case errors.Is(err, context.DeadlineExceeded), wire != nil && wire.Code() == connect.CodeDeadlineExceeded:
		return ops.Errorf(ops.Unavailable, "%s did not answer within %v: is it the centre, and is it well?", c.base, callTimeout)
	}
	return ops.Errorf(ops.Unavailable, "the call to %s went wrong (%w): see whether the centre runs, and try again", c.base, err)
}

// do sends a plain HTTP request and returns the response if it is a success.
func (c *client) do(req *http.Request) (*http.Response, error) {
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(req.Context(), err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return nil, c.explain(req.Context(), err)
	}
	var said struct {
		Code    connect.Code `json:"code"`
		Message string       `json:"message"`
	}
	if err := json.Unmarshal(body, &said); err != nil || said.Message == "" {
		return nil, ops.Errorf(ops.Unavailable, "%s answered %q: is it the centre?", c.base, res.Status)
	}
	kind, ok := kinds[said.Code]
	if !ok {
		kind = ops.Internal
	}
	return nil, ops.Errorf(kind, "%s", said.Message)
}

// instances lists what the fleet knows, gone ones included.
func (c *client) instances(ctx context.Context, project string) ([]*apiv1.Instance, error) {
	res, err := c.fleet.ListInstances(ctx, connect.NewRequest(&apiv1.ListInstancesRequest{Project: project, IncludeGone: true}))
	if err != nil {
		return nil, err
	}
	return res.Msg.GetInstances(), nil
}

func (c *client) capture(ctx context.Context, id string) (*apiv1.Capture, error) {
	res, err := c.captures.GetCapture(ctx, connect.NewRequest(&apiv1.GetCaptureRequest{CaptureId: id}))
	if err != nil {
		return nil, err
	}
	if res.Msg.GetCapture() == nil {
		return nil, ops.Errorf(ops.Internal, "the centre answered without a capture: is it older than this ops?")
	}
	return res.Msg.GetCapture(), nil
}

// diagnosis returns what the centre's rules say of a capture, as JSON.
func (c *client) diagnosis(ctx context.Context, id string, lang ops.Lang) ([]byte, error) {
	res, err := c.captures.GetDiagnosis(ctx, connect.NewRequest(&apiv1.GetDiagnosisRequest{CaptureId: id, Lang: string(lang)}))
	if err != nil {
		return nil, err
	}
	return []byte(res.Msg.GetJson()), nil
}
