package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/ops"
)

// The cookies. Their names make browsers refuse them without TLS, from another
// host of the domain, or for another path.
const (
	SessionCookie = "__Host-ops_session"
	DeviceCookie  = "__Host-ops_device"
)

// SelfName is the name of the centre's own agent.
const SelfName = "self"

// Door is the authorizer of a centre that people log in to. It knows sessions
// (a cookie), API tokens and the shared token (Authorization, as a bearer or as
// the password of basic authentication).
type Door struct {
	grants
	Accounts *Accounts
	// Shared is the token of the whole centre; nil = there is none.
	Shared *Token
	// Self lets the centre's own agent in, as an agent and nothing else.
	Self string
	// TrustedProxies are believed when they say where a request came from.
	TrustedProxies []netip.Prefix
}

var errNobody = ops.Errorf(ops.Denied, "this centre wants to know who you are: in a browser log in at /login; for the CLI use `ops login`; programs send `Authorization: Bearer …` with an API token")

// Authenticate implements Authorizer.
func (d *Door) Authenticate(r *http.Request) (Actor, error) {
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		_, secret, ok = r.BasicAuth()
	}
	if ok {
		if strings.HasPrefix(secret, TokenPrefix) {
			return d.Accounts.token(r.Context(), sum(secret))
		}
		if d.Self != "" && sum(secret) == sum(d.Self) {
			return Actor{Name: SelfName, Permissions: []Permission{Join}}, nil
		}
		if d.Shared != nil {
			return d.Shared.Authenticate(r)
		}
		return Actor{}, errToken
	}
	if c, err := r.Cookie(SessionCookie); err == nil && c.Value != "" {
		return d.Accounts.session(r.Context(), sum(c.Value))
	}
	return Actor{}, errNobody
}

// Still is nil while the actor is who they were and may do what they might.
func (d *Door) Still(ctx context.Context, actor Actor) error {
	var now Actor
	var err error
	switch {
	case actor.login.session != "":
		now, err = d.Accounts.session(ctx, actor.login.session)
	case actor.login.token != "":
		now, err = d.Accounts.token(ctx, actor.login.token)
	default:
		return nil
	}
	if err == nil && !slices.Equal(now.Grants, actor.Grants) {
		return ops.Errorf(ops.Denied, "what you may do has changed: call again")
	}
	return err
}

// Address is where a request came from: what the last proxy that is trusted says,
// else the other end of the connection.
func (d *Door) Address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	trusted := func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && slices.ContainsFunc(d.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for len(hops) > 0 && trusted(host) {
		last := strings.TrimSpace(hops[len(hops)-1])
		if _, err := netip.ParseAddr(last); err != nil {
			break
		}
		host, hops = last, hops[:len(hops)-1]
	}
	return host
}

// Fingerprint is how a key is pinned: its SHA-256 in hex.
func Fingerprint(spki []byte) string {
	h := sha256.Sum256(spki)
	return hex.EncodeToString(h[:])
}
