// Package consul enters services at a Consul agent, with a check that the service
// itself keeps passing.
//
// It speaks Consul's HTTP API over net/http, so that a service does not pay for
// Consul's client.
package consul

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/opscenter/opscenter/agent/register"
	"github.com/opscenter/opscenter/agent/register/internal/wire"
)

// Config says which agent.
type Config struct {
	// Address is that of the Consul agent of this host. Empty = 127.0.0.1:8500.
	Address string
	// TokenFile holds an ACL token that may write the service; empty = the anonymous
	// one. It is read again with every call.
	TokenFile string
	// Tags of the service.
	Tags []string
	// TLS of an https address; nil = the system's authorities.
	TLS *tls.Config
}

// Consul refuses to take a service out sooner than after a minute.
const gone = time.Minute

// Registry is one Consul agent.
type Registry struct {
	cfg     Config
	servers *wire.Servers
}

// New checks the configuration. It asks nothing yet.
func New(c Config) (*Registry, error) {
	servers, err := wire.New([]string{cmp.Or(c.Address, "127.0.0.1:8500")}, "8500", c.TLS)
	if err != nil {
		return nil, fmt.Errorf("consul: %w", err)
	}
	return &Registry{cfg: c, servers: servers}, nil
}

// Server is the agent's address.
func (r *Registry) Server() string { return r.servers.First() }

func (r *Registry) put(ctx context.Context, path string, v any) error {
	h := http.Header{}
	if r.cfg.TokenFile != "" {
		token, err := os.ReadFile(r.cfg.TokenFile)
		if err != nil {
			return err
		}
		h.Set("X-Consul-Token", strings.TrimSpace(string(token)))
	}
	return r.servers.JSON(ctx, http.MethodPut, "/v1/agent/"+path, h, v, nil)
}

// Enter registers the service with a check that passes for ttl.
func (r *Registry) Enter(ctx context.Context, e register.Entry, ttl time.Duration) error {
	return r.put(ctx, "service/register", map[string]any{
		"ID": e.ID, "Name": e.Service, "Address": e.Host, "Port": e.Port, "Meta": e.Meta, "Tags": r.cfg.Tags,
		"Check": map[string]any{
			"CheckID": "service:" + e.ID, "Name": "the service's agent", "TTL": ttl.String(), "Status": "passing",
			"DeregisterCriticalServiceAfter": max(gone, 2*ttl).String(),
		},
	})
}

// Keep lets the check pass again; Consul knows no check of a service that it has
// forgotten, and says so.
func (r *Registry) Keep(ctx context.Context, e register.Entry, _ time.Duration) error {
	return r.put(ctx, "check/update/"+url.PathEscape("service:"+e.ID), map[string]string{"Status": "passing", "Output": "the process runs"})
}

// Remove takes the service out.
func (r *Registry) Remove(ctx context.Context, e register.Entry) error {
	return r.put(ctx, "service/deregister/"+url.PathEscape(e.ID), nil)
}
