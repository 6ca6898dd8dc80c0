package app

import (
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/agentlink"
	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/join"
	"github.com/opscenter/opscenter/internal/ops"
)

// joinSection is how agents get in.
type joinSection struct {
	// RequireCertificate keeps out agents that show a shared token, or nothing.
	RequireCertificate bool `yaml:"require_certificate"`
	// Life is how long a certificate is good; 0 = 24 h.
	Life config.Duration `yaml:"life"`
	// Kubernetes lets pods join by their service account.
	Kubernetes *join.Kubernetes `yaml:"kubernetes"`
}

const (
	minCertificateLife = 10 * time.Minute
	maxCertificateLife = 30 * 24 * time.Hour
)

// Validate is called with what the file says.
func (s *joinSection) Validate() error {
	if d := time.Duration(s.Life); d != 0 && (d < minCertificateLife || d > maxCertificateLife) {
		return ops.Errorf(ops.Invalid, "life %v is no life for a certificate: use 10m to 30d", d)
	}
	return nil
}

const joinExample = `
join:
  require_certificate: true
  life: 24h
  kubernetes:
    audience: ops-center
    rules:
      - {namespace: games, service_account: user-service, project: color-game, service: user-service}
`

// newGate opens the gate of a centre that speaks TLS; nil for others, which
// agents join as they always did.
func newGate(o cli.ServeOptions, set joinSection, who access, record *audit.Log, links *agentlink.Server) (*join.Gate, error) {
	if who.certs == nil {
		if set.RequireCertificate {
			return nil, ops.Errorf(ops.Invalid, "join.require_certificate needs TLS: start the centre with --tls auto, or with --tls-cert and --tls-key")
		}
		return nil, nil
	}
	return join.Open(join.Config{
		Dir: filepath.Join(o.DataDir, "join"), Record: record, Life: time.Duration(set.Life), Pins: who.pins(), Kubernetes: set.Kubernetes, Drop: links.Drop, Logger: o.Logger,
	})
}

// agentsDoor lets agents in by their certificates, and leaves everybody else to
// the authorizer that it wraps.
type agentsDoor struct {
	auth.Authorizer
	gate    *join.Gate
	tunnel  string // its path
	require bool
	self    string // lets the centre's own agent in; empty = the wrapped one does
}

// behind wraps who's authorizer, if agents join by certificate.
func behind(gate *join.Gate, set joinSection, o cli.ServeOptions, who *access) (auth.Authorizer, error) {
	if gate == nil {
		return who.auth, nil
	}
	d := agentsDoor{Authorizer: who.auth, gate: gate, tunnel: o.BasePath + agentlink.Path, require: set.RequireCertificate}
	if set.RequireCertificate && who.selfToken == "" {
		d.self = rand.Text()
		who.selfToken = filepath.Join(o.DataDir, "self.token")
		if err := os.WriteFile(who.selfToken, []byte(d.self+"\n"), 0o600); err != nil {
			return nil, ops.Errorf(ops.Exhausted, "the token of the centre's own agent: %w", err)
		}
	}
	return d, nil
}

// Authenticate implements auth.Authorizer.
func (d agentsDoor) Authenticate(r *http.Request) (auth.Actor, error) {
	if r.URL.Path != d.tunnel {
		return d.Authorizer.Authenticate(r)
	}
	id, shown, err := d.gate.Admit(r)
	if err != nil {
		return auth.Actor{}, err
	}
	if shown {
		return auth.Actor{Name: "agent:" + id.String(), Permissions: []auth.Permission{auth.Join}}, nil
	}
	if secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && d.self != "" && subtle.ConstantTimeCompare([]byte(secret), []byte(d.self)) == 1 {
		return auth.Actor{Name: auth.SelfName, Permissions: []auth.Permission{auth.Join}}, nil
	}
	actor, err := d.Authorizer.Authenticate(r)
	if d.require && (err != nil || actor.Name != auth.SelfName) {
		return auth.Actor{}, d.gate.RefusedWithout(r)
	}
	return actor, err
}

// agentsTLS asks agents for a certificate. They alone offer HTTP/1.1 and nothing
// else, so that no browser asks a person to choose one. It is looked at by the
// gate and not by TLS, whose alerts tell neither side what is wrong.
func agentsTLS(c *tls.Config) *tls.Config {
	if c == nil {
		return nil
	}
	agents := c.Clone()
	agents.ClientAuth, agents.NextProtos = tls.RequestClientCert, []string{"http/1.1"}
	agents.SessionTicketsDisabled = true // agents stay; a ticket would hold their certificate
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Equal(hello.SupportedProtos, agents.NextProtos) {
			return agents, nil
		}
		return nil, nil
	}
	return c
}
