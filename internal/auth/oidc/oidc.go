// Package oidc lets people log in with an OpenID Connect provider: the
// authorization code flow with PKCE, state and nonce. It says whom the provider
// vouches for; what they may do is auth's matter.
package oidc

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/auth/loginpage"
	"github.com/opscenter/opscenter/internal/ops"
)

// patience bounds each question to the provider.
const patience = 10 * time.Second

// Provider is a loginpage.Provider. It asks the provider for its addresses at
// the first login, so that the centre starts while the provider is down.
type Provider struct {
	cfg  auth.OIDCSettings
	http *http.Client

	asking singleflight.Group // however many wait at the door, the provider is asked once
	found  atomic.Pointer[oidc.Provider]
}

var _ loginpage.Provider = (*Provider)(nil)

// New returns a provider; settings are valid. Client nil = http.DefaultClient
// with a bound of time.
func New(cfg auth.OIDCSettings, client *http.Client) *Provider {
	if client == nil {
		client = &http.Client{Timeout: patience}
	}
	return &Provider{cfg: cfg, http: client}
}

// Name implements loginpage.Provider.
func (p *Provider) Name() string {
	if u, err := url.Parse(p.cfg.Issuer); p.cfg.Name == "" && err == nil {
		return u.Host
	}
	return p.cfg.Name
}

// discover asks for the provider's addresses, once it answered never again.
func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	if found := p.found.Load(); found != nil {
		return found, nil
	}
	_, err, _ := p.asking.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience) // for others too
		defer cancel()
		found, err := oidc.NewProvider(oidc.ClientContext(ctx, p.http), p.cfg.Issuer)
		if err != nil {
			return nil, ops.Errorf(ops.Unavailable, "%s does not answer: %w", p.Name(), err)
		}
		p.found.Store(found)
		return nil, nil
	})
	return p.found.Load(), err
}

func (p *Provider) oauth(found *oidc.Provider) *oauth2.Config {
	scopes := p.cfg.Scopes
	if len(scopes) == 0 {
		scopes = []string{"profile", "email"}
	}
	return &oauth2.Config{
		ClientID: p.cfg.ClientID, ClientSecret: p.cfg.ClientSecret, Endpoint: found.Endpoint(),
		RedirectURL: strings.TrimRight(p.cfg.URL, "/") + "/login/oidc/callback", Scopes: append([]string{oidc.ScopeOpenID}, scopes...),
	}
}

// kept is what the browser keeps meanwhile: it makes an answer good for this
// login in this browser only.
type kept struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
}

// Begin implements loginpage.Provider.
func (p *Provider) Begin(ctx context.Context) (to string, keep []byte, err error) {
	found, err := p.discover(ctx)
	if err != nil {
		return "", nil, err
	}
	k := kept{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier()}
	if keep, err = json.Marshal(k); err != nil {
		return "", nil, err
	}
	return p.oauth(found).AuthCodeURL(k.State, oidc.Nonce(k.Nonce), oauth2.S256ChallengeOption(k.Verifier)), keep, nil
}

// Finish implements loginpage.Provider.
func (p *Provider) Finish(ctx context.Context, keep []byte, query url.Values) (loginpage.Identity, error) {
	denied := func(format string, args ...any) (loginpage.Identity, error) {
		return loginpage.Identity{}, ops.Errorf(ops.Denied, format, args...)
	}
	var k kept
	if err := json.Unmarshal(keep, &k); err != nil || k.State == "" || k.Nonce == "" || k.Verifier == "" {
		return denied("this login did not begin here: begin again")
	}
	if subtle.ConstantTimeCompare([]byte(k.State), []byte(query.Get("state"))) != 1 {
		return denied("this answer is to another login: begin again")
	}
	if said := query.Get("error"); said != "" {
		return denied("%s did not let you in (%.100q): ask who runs it", p.Name(), said)
	}
	found, err := p.discover(ctx)
	if err != nil {
		return loginpage.Identity{}, err
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.http), patience)
	defer cancel()
	// What goes wrong here is told without its text: it may quote the code.
	token, err := p.oauth(found).Exchange(ctx, query.Get("code"), oauth2.VerifierOption(k.Verifier))
	if silent := (*url.Error)(nil); errors.As(err, &silent) {
		return loginpage.Identity{}, ops.Errorf(ops.Unavailable, "%s does not answer: try again in a moment", p.Name())
	}
	if err != nil {
		return denied("%s does not take the code that it gave: begin again", p.Name())
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := found.Verifier(&oidc.Config{ClientID: p.cfg.ClientID}).Verify(ctx, raw)
	if err != nil {
		return denied("what %s says of you cannot be trusted: its token is not for this centre, has expired, or has no valid signature", p.Name())
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(k.Nonce)) != 1 {
		return denied("this answer is to another login: begin again")
	}
	return p.identity(id)
}

// identity reads name and groups of a token that was verified.
func (p *Provider) identity(id *oidc.IDToken) (loginpage.Identity, error) {
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return loginpage.Identity{}, ops.Errorf(ops.Denied, "what %s says of you cannot be read", p.Name())
	}
	claim := cmp.Or(p.cfg.NameClaim, "email")
	name, _ := claims[claim].(string)
	name, err := auth.CleanName(name)
	if err != nil {
		return loginpage.Identity{}, ops.Errorf(ops.Denied, "%s does not say your %s, or it cannot be a name: set name_claim to one that it does say", p.Name(), claim)
	}
	// Whoever may write any address into their profile is not who they say.
	if verified, said := claims["email_verified"].(bool); claim == "email" && (!said || !verified) {
		return loginpage.Identity{}, ops.Errorf(ops.Denied, "%s has not verified the address %s: verify it there, or set name_claim to something that people cannot choose", p.Name(), name)
	}
	out := loginpage.Identity{Name: name}
	groups, _ := claims[cmp.Or(p.cfg.GroupsClaim, "groups")].([]any)
	for _, g := range groups {
		if s, ok := g.(string); ok && s != "" && len(s) <= 200 && len(out.Groups) < 200 {
			out.Groups = append(out.Groups, s)
		}
	}
	return out, nil
}
