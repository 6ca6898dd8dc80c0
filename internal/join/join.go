// Package join lets agents in: who shows a join token, or a Kubernetes service
// account's, gets a certificate that is good for a day and for one name, and
// opens its tunnels with it. It keeps the tokens and an authority of its own for
// these certificates, which nobody but the centre has to know.
//
// It must not know what agents do once they are in, nor how people log in.
package join

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/ops"
)

const (
	defaultLife = 24 * time.Hour
	// skew is how far an agent's or the centre's own clock may have been off:
	// certificates begin that much earlier.
	skew = time.Hour
	// flushEvery is how late the last use of a token may reach the disk.
	flushEvery = 10 * time.Second
)

// Config makes a Gate.
type Config struct {
	// Dir is where tokens and the authority are kept. Required.
	Dir string
	// Record takes who joined, who was refused, and what was done to tokens.
	// Required.
	Record audit.Recorder
	// Life is how long a certificate is good; 0 = 24 h.
	Life time.Duration
	// Pins are told to agents with their certificates; see answer.
	Pins []string
	// Kubernetes says which service accounts may join; nil = none.
	Kubernetes *Kubernetes
	// Drop ends the tunnels of these instances; nil = they stay until they end.
	Drop func([]ops.InstanceID)
	// Logger tells of refusals; nil = silent.
	Logger *slog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Gate is where agents come in. All methods may be called concurrently.
type Gate struct {
	cfg       Config
	log       *slog.Logger
	now       func() time.Time
	authority *authority
	tokens    *tokens
	cluster   *cluster // nil = no Kubernetes
	failures  *failures
	holders   holders
}

// Open reads what dir holds; the first time it makes the authority.
func Open(cfg Config) (*Gate, error) {
	g := &Gate{cfg: cfg, log: cfg.Logger, now: cfg.Now, failures: newFailures()}
	g.cfg.Life = cmp.Or(cfg.Life, defaultLife)
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.now == nil {
		g.now = time.Now
	}
	var err error
	if g.authority, err = openAuthority(cfg.Dir, g.now()); err != nil {
		return nil, err
	}
	if g.tokens, err = openTokens(filepath.Join(cfg.Dir, "tokens.json")); err != nil {
		return nil, err
	}
	if cfg.Kubernetes != nil {
		if g.cluster, err = newCluster(*cfg.Kubernetes); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// Run writes down when tokens were used until ctx ends.
func (g *Gate) Run(ctx context.Context) error {
	t := time.NewTicker(flushEvery)
	defer t.Stop()
	defer g.cluster.close()
	for {
		select {
		case <-ctx.Done():
			return g.tokens.flush()
		case <-t.C:
			if err := g.tokens.flush(); err != nil {
				g.log.WarnContext(ctx, "the last use of join tokens is not on disk", "err", err)
			}
			g.holders.forget(g.now())
		}
	}
}

// remote is the other end of the connection: what a proxy says of it does not
// count, for certificates pass no proxy.
func remote(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// refused puts a refusal on record, unless its address is refused all the time:
// the record is no place to fill a disk with.
func (g *Gate) refused(ctx context.Context, action string, who Identity, from netip.Addr, err error) {
	g.log.InfoContext(ctx, "agent refused", "action", action, "agent", who.String(), "remote", from.String(), "error", err)
	if !g.failures.note(from, g.now()) {
		return
	}
	in := who.intent(action, map[string]string{"address": from.String()})
	if e := g.record(context.WithoutCancel(ctx), in, audit.Outcome{Result: audit.Refused, Message: err.Error()}); e != nil {
		g.log.WarnContext(ctx, "a refused agent is not on record", "err", e)
	}
}

// record writes an action down that is over as soon as it is recorded.
func (g *Gate) record(ctx context.Context, in audit.Intent, out audit.Outcome) error {
	act, err := g.cfg.Record.Begin(ctx, in)
	if err != nil {
		return err
	}
	return act.End(context.WithoutCancel(ctx), out)
}

// intent is an agent's row in the record. What it says of itself is kept only if
// it could be true.
func (id Identity) intent(action string, request map[string]string) audit.Intent {
	in := audit.Intent{Actor: "agent", Action: action, Subject: "a name that is none", Mutating: action == actionJoin}
	if id.valid() {
		in.Subject = id.String()
		in.Project, in.Service, in.Instances = id.Project, id.Service, []ops.InstanceID{id.Instance}
	}
	in.Request, _ = json.Marshal(request) //nolint:errchkjson // strings
	return in
}

// What the record calls it.
const (
	actionJoin    = "agent.join"
	actionRefused = "agent.join.refused"
	actionTunnel  = "agent.tunnel.refused"
	actionCreate  = "join-token.create"
	actionRevoke  = "join-token.revoke"
)
