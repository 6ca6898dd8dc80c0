// Package wire makes HTTP calls to the servers of a registry: bounded, without
// redirects, and with nothing kept open in between.
package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	callWithin = 5 * time.Second
	// maxAnswerBytes is far above what the few answers take that are read.
	maxAnswerBytes = 1 << 20
)

// Servers are those of one registry, of which any will do.
type Servers struct {
	urls []*url.URL
	http *http.Client
}

// New checks the addresses: host:port or http(s)://host:port/path.
func New(addresses []string, port string, tlsConfig *tls.Config) (*Servers, error) {
	if len(addresses) == 0 {
		return nil, errors.New("register: no address of the registry is given")
	}
	s := &Servers{http: &http.Client{Timeout: callWithin,
		Transport:     &http.Transport{TLSClientConfig: tlsConfig, DisableKeepAlives: true, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	for _, a := range addresses {
		full := a
		if !strings.Contains(full, "://") {
			full = "http://" + full
		}
		u, err := url.Parse(full)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("register: a registry's address is not valid: write host:port or https://host:port, without user and query")
		}
		if u.Port() == "" {
			u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"http": port, "https": "443"}[u.Scheme])
		}
		u.Path = strings.TrimSuffix(u.Path, "/")
		s.urls = append(s.urls, u)
	}
	return s, nil
}

// First is host:port of the first one.
func (s *Servers) First() string { return s.urls[0].Host }

// Call asks one server after the other until one answers at all, and returns the
// body of an answer in the 200s.
func (s *Servers) Call(ctx context.Context, method, path string, header http.Header, body []byte) (answer []byte, err error) {
	for _, u := range s.urls {
		if answer, err = s.one(ctx, method, u.String()+path, header, body); err == nil || errors.As(err, new(*Refusal)) {
			break
		}
	}
	return answer, err
}

// Refusal is an answer that is none in the 200s.
type Refusal struct {
	Status int
	Text   string
}

func (r *Refusal) Error() string { return fmt.Sprintf("it answers %d: %.200s", r.Status, r.Text) }

func (s *Servers) one(ctx context.Context, method, url string, header http.Header, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header.Clone()
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no answer: %w", unwrapped(err))
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if resp.StatusCode/100 != 2 {
		return nil, &Refusal{resp.StatusCode, strings.TrimSpace(string(b))}
	}
	return b, err
}

// unwrapped drops the URL, in which there is nothing new.
func unwrapped(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// JSON calls with v as JSON, and reads the answer into into unless that is nil.
func (s *Servers) JSON(ctx context.Context, method, path string, header http.Header, v, into any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/json")
	answer, err := s.Call(ctx, method, path, header, body)
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("it answers what cannot be read: %w", err)
	}
	return nil
}
