// Package nacos enters services into Nacos as ephemeral instances, which live of
// heartbeats.
//
// It speaks the v1 HTTP API of Nacos 1 and 2 over net/http, so that a service does
// not pay for Nacos' client. It was tested against a stand-in written from Nacos'
// documents.
package nacos

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opscenter/opscenter/agent/register"
	"github.com/opscenter/opscenter/agent/register/internal/wire"
)

// Config says which Nacos.
type Config struct {
	// Addresses are the cluster's: "10.0.0.1:8848" or "https://nacos.example.com".
	Addresses []string
	// ContextPath of the servers; empty = /nacos.
	ContextPath string
	// User and PasswordFile say who registers; empty = nobody in particular.
	User         string
	PasswordFile string
	// Namespace is the namespace's id; empty = public.
	Namespace string
	// Group of the service; empty = DEFAULT_GROUP.
	Group string
	// TLS of https addresses; nil = the system's authorities.
	TLS *tls.Config
}

// Registry is one Nacos. It is of one Registration.
type Registry struct {
	cfg     Config
	servers *wire.Servers
	token   string
}

// New checks the configuration. It asks nothing yet.
func New(c Config) (*Registry, error) {
	c.Group = cmp.Or(c.Group, "DEFAULT_GROUP")
	c.ContextPath = "/" + strings.Trim(cmp.Or(c.ContextPath, "/nacos"), "/")
	if (c.User == "") != (c.PasswordFile == "") {
		return nil, errors.New("register: nacos: User and PasswordFile belong together: give both or none")
	}
	servers, err := wire.New(c.Addresses, "8848", c.TLS)
	if err != nil {
		return nil, fmt.Errorf("nacos: %w", err)
	}
	return &Registry{cfg: c, servers: servers}, nil
}

// Server is the first address.
func (r *Registry) Server() string { return r.servers.First() }

// call puts parameters where Nacos reads them for that method.
func (r *Registry) call(ctx context.Context, method, path string, q url.Values) ([]byte, error) {
	h := http.Header{}
	if r.token != "" {
		h.Set("Authorization", "Bearer "+r.token)
	}
	path = r.cfg.ContextPath + "/v1" + path
	if method != http.MethodPost {
		return r.servers.Call(ctx, method, path+"?"+q.Encode(), h, nil)
	}
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	return r.servers.Call(ctx, method, path, h, []byte(q.Encode()))
}

func (r *Registry) about(e register.Entry) url.Values {
	q := url.Values{"serviceName": {e.Service}, "groupName": {r.cfg.Group}, "ip": {e.Host}, "port": {strconv.Itoa(e.Port)}, "ephemeral": {"true"}}
	if r.cfg.Namespace != "" {
		q.Set("namespaceId", r.cfg.Namespace)
	}
	return q
}

// Enter registers the instance. Its metadata say how long Nacos holds it for
// healthy without a heartbeat (ttl), and when it takes it out (twice that).
func (r *Registry) Enter(ctx context.Context, e register.Entry, ttl time.Duration) error {
	if err := r.login(ctx); err != nil {
		return err
	}
	meta := maps.Clone(e.Meta)
	meta["preserved.heart.beat.interval"] = strconv.FormatInt((ttl / 3).Milliseconds(), 10)
	meta["preserved.heart.beat.timeout"] = strconv.FormatInt(ttl.Milliseconds(), 10)
	meta["preserved.ip.delete.timeout"] = strconv.FormatInt(2*ttl.Milliseconds(), 10)
	b, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	q := r.about(e)
	q.Set("metadata", string(b))
	q.Set("weight", "1")
	q.Set("healthy", "true")
	q.Set("enabled", "true")
	_, err = r.call(ctx, http.MethodPost, "/ns/instance", q)
	return err
}

// Keep sends a heartbeat; Nacos says of an instance that it does not know.
func (r *Registry) Keep(ctx context.Context, e register.Entry, _ time.Duration) error {
	answer, err := r.call(ctx, http.MethodPut, "/ns/instance/beat", r.about(e))
	if err != nil {
		return err
	}
	var said struct{ Code int }
	if err := json.Unmarshal(answer, &said); err != nil {
		return fmt.Errorf("it answers a heartbeat with what cannot be read: %w", err)
	}
	// Nacos 1.0 says no code.
	if said.Code != 0 && said.Code != 10200 {
		return fmt.Errorf("it answers a heartbeat with code %d: it does not know the instance", said.Code)
	}
	return nil
}

// Remove takes the instance out.
func (r *Registry) Remove(ctx context.Context, e register.Entry) error {
	_, err := r.call(ctx, http.MethodDelete, "/ns/instance", r.about(e))
	return err
}

func (r *Registry) login(ctx context.Context) error {
	r.token = ""
	if r.cfg.User == "" {
		return nil
	}
	password, err := os.ReadFile(r.cfg.PasswordFile)
	if err != nil {
		return err
	}
	answer, err := r.call(ctx, http.MethodPost, "/auth/login", url.Values{"username": {r.cfg.User}, "password": {strings.TrimSpace(string(password))}})
	if err != nil {
		return err
	}
	var said struct {
		Token string `json:"accessToken"`
	}
	if err := json.Unmarshal(answer, &said); err != nil || said.Token == "" {
		return errors.New("it answers a login with no token")
	}
	r.token = said.Token
	return nil
}
