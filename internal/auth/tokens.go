package auth

import (
	"context"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/opscenter/opscenter/internal/ops"
)

// TokenPrefix begins every API token, for scanners of leaked secrets to know.
const TokenPrefix = "opsp_"

// The life of a token.
const (
	DefaultTokenLife = 90 * 24 * time.Hour
	maxTokenLife     = 366 * 24 * time.Hour
)

// TokenRequest asks for an API token.
type TokenRequest struct {
	Name   string
	Grants []Grant
	Life   time.Duration // 0 = DefaultTokenLife
}

// NewToken makes a token for the actor, who must hold what the token shall. The
// secret is returned once and kept nowhere. What its owner loses, the token
// loses.
func (a *Accounts) NewToken(ctx context.Context, by Actor, r TokenRequest) (secret string, t APIToken, err error) {
	switch {
	case strings.TrimSpace(r.Name) == "" || len(r.Name) > 80:
		return "", t, ops.Errorf(ops.Invalid, "a token needs a name of up to 80 bytes that says what it is for")
	case len(r.Grants) == 0:
		return "", t, ops.Errorf(ops.Invalid, "a token without a role can do nothing: give it one, such as viewer")
	case r.Life == 0:
		r.Life = DefaultTokenLife
	case r.Life < time.Minute || r.Life > maxTokenLife:
		return "", t, ops.Errorf(ops.Invalid, "a token lives from a minute to %d days, not %v", maxTokenLife/(24*time.Hour), r.Life)
	}
	// A token without an owner could make others that outlive it, seen by nobody.
	if by.login.token != "" && by.Holder() == "" && !by.May(Admin, Subject{}) {
		return "", t, ops.Errorf(ops.Denied, "%s is a token, which makes no others: log in", by.Name)
	}
	for _, g := range r.Grants {
		if !within(g, by) {
			return "", t, ops.Errorf(ops.Denied, "%s cannot give a token %s without holding it", by.Name, g)
		}
	}
	secret = TokenPrefix + random()
	now := a.Now()
	t = APIToken{
		ID: strings.ToLower(ulid.Make().String()), Hash: sum(secret), Name: printable(strings.TrimSpace(r.Name)),
		Owner: by.Holder(), Groups: by.login.groups, Created: now, Expires: now.Add(r.Life),
	}
	e := a.event(by.Name, "token.create", t.Name, true, map[string]any{"id": t.ID, "grants": texts(r.Grants), "expires": t.Expires.UTC().Format(time.RFC3339)})
	if err := a.done(a.Store.AddToken(ctx, t, r.Grants, e)); err != nil {
		return "", APIToken{}, err
	}
	return secret, t, nil
}

// RevokeToken ends a token: one's own, or, for those who administer, anybody's.
func (a *Accounts) RevokeToken(ctx context.Context, by Actor, id string) error {
	tokens, err := a.Store.Tokens(ctx)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		own := t.Owner != "" && t.Owner == by.Holder()
		if t.ID == id && (own || by.May(Admin, Subject{})) {
			return a.done(a.Store.RevokeToken(ctx, id, a.Now(), a.event(by.Name, "token.revoke", t.Name, true, map[string]string{"id": id})))
		}
	}
	return ops.Errorf(ops.NotFound, "there is no token %.40q that you could revoke: see `ops token list`", id)
}

// Tokens lists the actor's tokens, or all of them for those who administer.
func (a *Accounts) Tokens(ctx context.Context, by Actor) ([]APIToken, error) {
	all, err := a.Store.Tokens(ctx)
	if err != nil || by.May(Admin, Subject{}) {
		return all, err
	}
	var out []APIToken
	for _, t := range all {
		if t.Owner != "" && t.Owner == by.Holder() {
			out = append(out, t)
		}
	}
	return out, nil
}

var errToken = ops.Errorf(ops.Denied, "the token is not known here, has expired or was revoked: make a new one with `ops token create`")

// token returns whose token it is.
func (a *Accounts) token(ctx context.Context, hash string) (Actor, error) {
	t, err := a.Store.Token(ctx, hash)
	if ops.KindOf(err) == ops.NotFound {
		return Actor{}, errToken
	}
	if err != nil {
		return Actor{}, err
	}
	now := a.Now()
	if !t.Revoked.IsZero() || !now.Before(t.Expires) {
		return Actor{}, errToken
	}
	grants, err := a.Store.Grants(ctx, Holder("token:"+t.ID))
	if err != nil {
		return Actor{}, err
	}
	if t.Owner != "" {
		if grants, err = a.bounded(ctx, grants, t); err != nil {
			return Actor{}, err
		}
	}
	if now.Sub(t.Used) > seenEvery {
		if err := a.Store.UsedToken(ctx, t.ID, now); err != nil {
			a.Logger.WarnContext(ctx, "it is not noted that a token is used", "token", t.ID, "err", err)
		}
	}
	name := "token:" + t.Name
	if t.Owner != "" {
		name = string(t.Owner) + " by token:" + t.Name
	}
	return Actor{Name: name, Grants: grants, login: login{holder: t.Owner, groups: t.Groups, token: hash}}, nil
}

// bounded keeps of a token's grants what its owner still holds.
func (a *Accounts) bounded(ctx context.Context, grants []Grant, t APIToken) (out []Grant, err error) {
	if name, ok := strings.CutPrefix(string(t.Owner), "user:"); ok {
		if u, err := a.Store.User(ctx, name); ops.KindOf(err) == ops.NotFound || err == nil && u.Disabled {
			return nil, errToken
		} else if err != nil {
			return nil, err
		}
	}
	held, err := a.grantsOf(ctx, t.Owner, t.Groups)
	if err != nil {
		return nil, err
	}
	for _, g := range grants {
		if within(g, Actor{Grants: held}) {
			out = append(out, g)
		}
	}
	return out, nil
}
