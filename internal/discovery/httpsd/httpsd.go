// Package httpsd is the discovery source of Prometheus' HTTP service discovery: a
// URL that answers with a list of targets, in the format of its files, asked
// again and again.
//
// An answer that is none, or no answer, keeps what was said last.
package httpsd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/discovery/filesd"
	"github.com/opscenter/opscenter/internal/ops"
)

// Config makes a Source.
type Config struct {
	// URL answers GET with a JSON list; http or https.
	URL string `yaml:"url"`
	// Refresh is how often it is asked; 0 = 30 s. A tenth of it is random, so that
	// many centres do not ask at once.
	Refresh time.Duration `yaml:"refresh"`
	// Logger tells what is wrong, once; nil = silent.
	Logger *slog.Logger `yaml:"-"`
}

const (
	defaultRefresh = 30 * time.Second
	answerWithin   = 10 * time.Second
	dialWithin     = 5 * time.Second
	maxAnswerBytes = 32 << 20
	maxRedirects   = 3
)

// Source asks the URL.
type Source struct {
	*discovery.Trouble
	url     *url.URL
	refresh time.Duration
	client  *http.Client

	etag string // of the last good answer; only Run's goroutine
}

// Validate says what cannot be, as an Invalid error.
func (cfg Config) Validate() error {
	_, err := cfg.parse()
	return err
}

func (cfg Config) parse() (*url.URL, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Fragment != "" {
		return nil, ops.Errorf(ops.Invalid, "HTTP-SD URL %q: use one such as https://registry.example.com/targets", cfg.URL)
	}
	if u.User != nil {
		return nil, ops.Errorf(ops.Invalid, "HTTP-SD URL %q carries a password: addresses are logged, so put who may ask into the registry's network rules", u.Redacted())
	}
	if cfg.Refresh < 0 {
		return nil, ops.Errorf(ops.Invalid, "HTTP-SD refresh %v is negative: use one such as 30s", cfg.Refresh)
	}
	return u, nil
}

// New checks the configuration. It asks nothing yet.
func New(cfg Config) (*Source, error) {
	u, err := cfg.parse()
	if err != nil {
		return nil, err
	}
	s := &Source{url: u, refresh: cmp.Or(cfg.Refresh, defaultRefresh)}
	s.Trouble = discovery.NewTrouble(cfg.Logger, s.Name())
	dialer := &net.Dialer{Timeout: dialWithin, Control: discovery.GuardDial}
	s.client = &http.Client{
		Timeout:   answerWithin,
		Transport: &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: dialWithin, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("it redirects on and on")
			}
			return nil
		},
	}
	return s, nil
}

// Name is "http-sd" and the host.
func (s *Source) Name() string { return "http-sd " + s.url.Host }

// Run asks until ctx ends.
func (s *Source) Run(ctx context.Context, update func([]ops.Target)) error {
	defer s.client.CloseIdleConnections()
	for {
		targets, changed, err := s.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.Set(err.Error())
		default:
			s.Set("")
			if changed {
				update(targets)
			}
		}
		wait := time.NewTimer(s.refresh - time.Duration(rand.Int64N(int64(s.refresh)/10+1)))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil
		}
	}
}

// ask returns the targets, or that they are the same as before.
func (s *Source) ask(ctx context.Context) (targets []ops.Target, changed bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url.String(), nil)
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "opscenter")
	req.Header.Set("X-Prometheus-Refresh-Interval-Seconds", strconv.FormatFloat(s.refresh.Seconds(), 'f', -1, 64))
	if s.etag != "" {
		req.Header.Set("If-None-Match", s.etag)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, false, fmt.Errorf("no answer: %w", unwrapped(err))
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && s.etag != "":
		return nil, false, nil
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return nil, false, fmt.Errorf("it refuses to answer (%s): let the centre's address in at the registry", resp.Status)
	case resp.StatusCode != http.StatusOK:
		return nil, false, fmt.Errorf("it answered %s", resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, false, fmt.Errorf("the answer broke off: %w", unwrapped(err))
	}
	if len(b) > maxAnswerBytes {
		return nil, false, fmt.Errorf("the answer is larger than %d MiB", maxAnswerBytes>>20)
	}
	if targets, err = filesd.Parse("answer.json", b); err != nil {
		return nil, false, err
	}
	for i := range targets {
		targets[i].Source = s.Name()
	}
	s.etag = resp.Header.Get("Etag")
	return targets, true, nil
}

// unwrapped drops the URL that net/http puts before its errors: it is said once.
func unwrapped(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
