// Package etcd enters services into etcd, with a lease, as etcd's own
// naming/endpoints writes them: gRPC's etcd resolver finds them as well as the
// centre does.
//
// It speaks etcd's JSON gateway (on by default, since 3.4 under /v3/) over net/http, so that
// a service does not pay for etcd's client.
package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opscenter/opscenter/agent/register"
	"github.com/opscenter/opscenter/agent/register/internal/wire"
)

// Config says where the keys are.
type Config struct {
	// Endpoints are the cluster's: "10.0.0.1:2379" or "https://etcd.example.com:2379".
	Endpoints []string
	// Prefix of the keys; PROJECT/SERVICE/BOOT-ID follows it. Empty = /services/.
	Prefix string
	// User and PasswordFile say who writes; empty = nobody in particular.
	User         string
	PasswordFile string
	// TLS of https endpoints; nil = the system's authorities.
	TLS *tls.Config
}

// Registry is one etcd. It is of one Registration.
type Registry struct {
	cfg     Config
	servers *wire.Servers
	token   string
	lease   string
}

// New checks the configuration. It asks nothing yet.
func New(c Config) (*Registry, error) {
	c.Prefix = cmp.Or(c.Prefix, "/services/")
	if (c.User == "") != (c.PasswordFile == "") {
		return nil, errors.New("register: etcd: User and PasswordFile belong together: give both or none")
	}
	servers, err := wire.New(c.Endpoints, "2379", c.TLS)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return &Registry{cfg: c, servers: servers}, nil
}

// Server is the first endpoint.
func (r *Registry) Server() string { return r.servers.First() }

func (r *Registry) key(e register.Entry) []byte {
	return []byte(strings.TrimSuffix(r.cfg.Prefix, "/") + "/" + e.Project + "/" + e.Service + "/" + e.ID)
}

func (r *Registry) post(ctx context.Context, path string, v, into any) error {
	h := http.Header{}
	if r.token != "" {
		h.Set("Authorization", r.token)
	}
	return r.servers.JSON(ctx, http.MethodPost, "/v3/"+path, h, v, into)
}

// Enter puts the key with a new lease; a lease of before ends without it.
func (r *Registry) Enter(ctx context.Context, e register.Entry, ttl time.Duration) error {
	if err := r.login(ctx); err != nil {
		return err
	}
	var lease struct{ ID string }
	if err := r.post(ctx, "lease/grant", map[string]string{"TTL": seconds(ttl)}, &lease); err != nil {
		return err
	}
	if lease.ID == "" {
		return errors.New("it grants no lease: is it etcd's address for clients?")
	}
	value, err := json.Marshal(map[string]any{"Op": 0, "Addr": e.Address(), "Metadata": e.Meta})
	if err != nil {
		return err
	}
	r.lease = lease.ID
	return r.post(ctx, "kv/put", map[string]any{"key": r.key(e), "value": value, "lease": lease.ID}, nil)
}

// seconds rounds up: a lease must not be shorter than what was asked for.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// Keep renews the lease; one that has ended is an error.
func (r *Registry) Keep(ctx context.Context, e register.Entry, _ time.Duration) error {
	var answer struct{ Result struct{ TTL string } }
	if err := r.post(ctx, "lease/keepalive", map[string]string{"ID": r.lease}, &answer); err != nil {
		return err
	}
	if ttl, err := strconv.Atoi(answer.Result.TTL); err != nil || ttl < 1 {
		return fmt.Errorf("the lease of key %s has ended", r.key(e))
	}
	// The key may be gone although the lease is not: someone deleted it, or the
	// cluster was restored.
	var found struct{ Count string }
	if err := r.post(ctx, "kv/range", map[string]any{"key": r.key(e), "count_only": true}, &found); err != nil {
		return err
	}
	if found.Count != "1" {
		return fmt.Errorf("key %s is not there any more", r.key(e))
	}
	return nil
}

// Remove deletes the key and its lease.
func (r *Registry) Remove(ctx context.Context, e register.Entry) error {
	err := r.post(ctx, "kv/deleterange", map[string]any{"key": r.key(e)}, nil)
	if r.lease != "" {
		err = errors.Join(err, r.post(ctx, "lease/revoke", map[string]string{"ID": r.lease}, nil))
	}
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
	var answer struct{ Token string }
	if err := r.post(ctx, "auth/authenticate", map[string]string{"name": r.cfg.User, "password": strings.TrimSpace(string(password))}, &answer); err != nil {
		return err
	}
	r.token = answer.Token
	return nil
}
