package nacos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

const (
	answerWithin = 10 * time.Second
	dialWithin   = 5 * time.Second
	pageSize     = 500
	// maxAnswerBytes is above what 20,000 instances of a service take.
	maxAnswerBytes = 64 << 20
)

// client speaks with one server of the cluster at a time.
type client struct {
	cfg  Config
	http *http.Client

	mu    sync.Mutex // guards all below
	at    int        // index of the address
	token string
	until time.Time // when the token is to be renewed
}

// instance is what Nacos says of one.
type instance struct {
	IP       string            `json:"ip"`
	Port     int               `json:"port"`
	Healthy  bool              `json:"healthy"`
	Enabled  bool              `json:"enabled"`
	Cluster  string            `json:"clusterName"`
	Metadata map[string]string `json:"metadata"`
}

// complaint is what Nacos has against it; empty = nothing.
func (i instance) complaint() string {
	switch {
	case !i.Enabled:
		return "disabled: taken out of service in Nacos"
	case !i.Healthy:
		return "unhealthy: Nacos hears no heartbeat, or its check fails"
	}
	return ""
}

func newClient(cfg Config) (*client, error) {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialWithin, Control: discovery.GuardDial}).DialContext,
		TLSHandshakeTimeout: dialWithin, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: atOnce, ForceAttemptHTTP2: true,
	}
	if strings.HasPrefix(cfg.Addresses[0], "https://") {
		var err error
		if transport.TLSClientConfig, err = cfg.TLS.Load(); err != nil {
			return nil, err
		}
	}
	return &client{cfg: cfg, http: &http.Client{Transport: transport, Timeout: answerWithin,
		// A redirect would take the password where nobody said it may go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// next turns to the cluster's next server; tokens are good on all, but its key may
// have been changed.
func (c *client) next() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = (c.at + 1) % len(c.cfg.Addresses)
	c.token = ""
}

// services lists the names of a group, page by page.
func (c *client) services(ctx context.Context) ([]string, error) {
	var names []string
	for page := 1; ; page++ {
		var answer struct {
			Count int      `json:"count"`
			Doms  []string `json:"doms"`
		}
		if err := c.get(ctx, "/v1/ns/service/list", url.Values{"pageNo": {strconv.Itoa(page)}, "pageSize": {strconv.Itoa(pageSize)}}, &answer); err != nil {
			return nil, err
		}
		if answer.Count > maxServices {
			return nil, ops.Errorf(ops.Exhausted, "%d services are too many for one source: name at most %d in services", answer.Count, maxServices)
		}
		for _, name := range answer.Doms {
			if _, plain, grouped := strings.Cut(name, "@@"); grouped {
				name = plain
			}
			names = append(names, name)
		}
		if len(answer.Doms) < pageSize || len(names) >= maxServices {
			return names, nil
		}
	}
}

// all lists the instances of each service.
func (c *client) all(ctx context.Context, names []string) ([][]instance, error) {
	out := make([][]instance, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, name := range names {
		g.Go(func() error {
			var answer struct {
				Hosts *[]instance `json:"hosts"`
			}
			if err := c.get(ctx, "/v1/ns/instance/list", url.Values{"serviceName": {name}}, &answer); err != nil {
				return err
			}
			if answer.Hosts == nil {
				return c.errorf("answers without hosts for service %.80q: is it a Nacos, and does it serve the v1 API?", name)
			}
			out[i] = *answer.Hosts
			return nil
		})
	}
	return out, g.Wait()
}

// get asks, with a token that is made anew when it is refused.
func (c *client) get(ctx context.Context, path string, q url.Values, into any) error {
	q.Set("groupName", c.cfg.Group)
	if c.cfg.Namespace != "" {
		q.Set("namespaceId", c.cfg.Namespace)
	}
	for attempt := 0; ; attempt++ {
		token, err := c.login(ctx)
		if err != nil {
			return err
		}
		status, body, err := c.do(ctx, http.MethodGet, path+"?"+q.Encode(), token, "")
		switch {
		case err != nil:
			return err
		case status == http.StatusUnauthorized, status == http.StatusForbidden:
			if token != "" && attempt == 0 {
				c.forget(token)
				continue
			}
			return c.refused(status)
		case status != http.StatusOK:
			return c.errorf("answers %d: %.120s", status, strings.TrimSpace(string(body)))
		}
		if err := json.Unmarshal(body, into); err != nil {
			return c.errorf("says what cannot be read: %.120v", err)
		}
		return nil
	}
}

// login returns a token that is good for a while; "" where there is no user.
func (c *client) login(ctx context.Context) (string, error) {
	if c.cfg.User == "" {
		return "", nil
	}
	c.mu.Lock()
	token, until := c.token, c.until
	c.mu.Unlock()
	if token != "" && time.Now().Before(until) {
		return token, nil
	}
	password, err := discovery.Secret(c.cfg.PasswordFile)
	if err != nil {
		return "", err
	}
	form := url.Values{"username": {c.cfg.User}, "password": {password}}
	status, body, err := c.do(ctx, http.MethodPost, "/v1/auth/login", "", form.Encode())
	var answer struct {
		Token string `json:"accessToken"`
		TTL   int    `json:"tokenTtl"` // seconds
	}
	switch {
	case err != nil:
		return "", err
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return "", c.refused(status)
	case status != http.StatusOK || json.Unmarshal(body, &answer) != nil || answer.Token == "":
		return "", c.errorf("answers a login with %d and no token", status)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// Renewed well before its end, and at least now and then where none is said.
	seconds := min(max(answer.TTL, 10), 24*60*60)
	c.token, c.until = answer.Token, time.Now().Add(time.Duration(seconds)*time.Second*8/10)
	return c.token, nil
}

func (c *client) forget(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == token {
		c.token = ""
	}
}

func (c *client) do(ctx context.Context, method, path, token, form string) (int, []byte, error) {
	c.mu.Lock()
	address := c.cfg.Addresses[c.at]
	c.mu.Unlock()
	u, err := base(address)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String()+path, strings.NewReader(form))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("User-Agent", "opscenter")
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token) // never in the URL, which is logged
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			if ue.Timeout() {
				return 0, nil, c.errorf("does not answer in time: check that it runs and can be reached from here")
			}
			err = ue.Err
		}
		return 0, nil, c.errorf("cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	switch {
	case err != nil:
		return 0, nil, c.errorf("broke off its answer: %w", err)
	case len(body) > maxAnswerBytes:
		return 0, nil, c.errorf("answers with more than %d MiB", maxAnswerBytes>>20)
	}
	return resp.StatusCode, body, nil
}

func (c *client) refused(status int) error {
	if c.cfg.User == "" {
		return c.errorf("refuses to answer (%d) without a user: set user and password_file", status)
	}
	return c.errorf("refuses user %q (%d): check user and password_file, and that it may read the namespace", c.cfg.User, status)
}

// errorf says which server it is.
func (c *client) errorf(format string, args ...any) error {
	c.mu.Lock()
	address := c.cfg.Addresses[c.at]
	c.mu.Unlock()
	return fmt.Errorf("nacos at %s %w", address, fmt.Errorf(format, args...))
}
