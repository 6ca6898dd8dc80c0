package join

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/ops"
)

// TokenPrefix begins every join token, so that scanners find one that leaked.
const TokenPrefix = "opsj_"

const (
	// maxTokens bounds the file. A token is for a service, not for a process.
	maxTokens = 5000
	maxCIDRs  = 32
	// Once and short is what a token is that nobody said more about.
	defaultUses = 1
	defaultLast = 30 * time.Minute
)

// Token lets processes of some services join. Its secret is kept by nobody but
// who was given it.
type Token struct {
	ID string `json:"id"`
	// Project and Service are names or patterns with * and ?.
	Project string `json:"project"`
	Service string `json:"service"`
	// CIDRs are where it may be used from; none = everywhere.
	CIDRs   []netip.Prefix `json:"cidrs,omitempty"`
	Created time.Time      `json:"created"`
	By      string         `json:"by"`
	Expires time.Time      `json:"expires,omitzero"` // zero = never
	MaxUses int            `json:"max_uses"`         // 0 = as many as come
	Uses    int            `json:"uses"`
	// LastUsed and LastFrom may be some seconds behind after the centre was killed.
	LastUsed time.Time `json:"last_used,omitzero"`
	LastFrom string    `json:"last_from,omitempty"`
	Revoked  time.Time `json:"revoked,omitzero"`
	Hash     string    `json:"hash"` // SHA-256 of the secret
}

// TokenRequest is what a new token is to be.
type TokenRequest struct {
	Project, Service string // patterns
	CIDRs            []string
	// For is how long it can be used; 0 = 30 min, negative = for ever.
	For time.Duration
	// Uses is how many processes may join with it; 0 = one, negative = all that come.
	Uses int
}

// Create makes a token and returns its secret, which nobody can ask for again.
func (g *Gate) Create(ctx context.Context, actor string, r TokenRequest) (secret string, t Token, err error) {
	now := g.now()
	t = Token{
		ID: strings.ToLower(rand.Text()[:10]), Project: r.Project, Service: r.Service,
		Created: now, By: actor, MaxUses: cmp.Or(r.Uses, defaultUses),
	}
	for what, pattern := range map[string]string{"project": r.Project, "service": r.Service} {
		if !validPattern(pattern) {
			return "", t, ops.Errorf(ops.Invalid, "the %s %.80q is no name and no pattern: write one such as color-game, or with * such as user-*", what, pattern)
		}
	}
	if t.MaxUses < 0 {
		t.MaxUses = 0
	}
	if last := cmp.Or(r.For, defaultLast); last > 0 {
		t.Expires = now.Add(last)
	}
	if len(r.CIDRs) > maxCIDRs {
		return "", t, ops.Errorf(ops.Invalid, "%d networks are too many for a token: use at most %d", len(r.CIDRs), maxCIDRs)
	}
	for _, s := range r.CIDRs {
		p, err := parsePrefix(s)
		if err != nil {
			return "", t, ops.Errorf(ops.Invalid, "the network %.60q is none: write one such as 10.0.0.0/8, or an address", s)
		}
		t.CIDRs = append(t.CIDRs, p)
	}
	secret = TokenPrefix + t.ID + "_" + strings.ToLower(rand.Text()+rand.Text())
	t.Hash = hashOf(secret)
	request, err := json.Marshal(map[string]any{"project": t.Project, "service": t.Service, "networks": r.CIDRs, "expires": t.Expires, "uses": t.MaxUses})
	if err != nil {
		return "", t, err
	}
	err = g.recorded(ctx, audit.Intent{Actor: actor, Action: actionCreate, Subject: t.ID, Mutating: true, Request: request}, func() error { return g.tokens.add(t) })
	return secret, t, err
}

// Tokens lists all tokens, the newest first, those that are over included.
func (g *Gate) Tokens() []Token { return g.tokens.list() }

// Revoke ends a token, the certificates that were given for it, and the tunnels
// that were opened with them.
func (g *Gate) Revoke(ctx context.Context, actor, id string) error {
	if _, ok := g.tokens.get(id); !ok {
		return ops.Errorf(ops.NotFound, "there is no join token %.40q: `ops join-token list` shows them", id)
	}
	err := g.recorded(ctx, audit.Intent{Actor: actor, Action: actionRevoke, Subject: id, Mutating: true}, func() error { return g.tokens.revoke(id, g.now()) })
	if err == nil && g.cfg.Drop != nil {
		g.cfg.Drop(g.holders.of(tokenMethod + id))
	}
	return err
}

func (g *Gate) recorded(ctx context.Context, in audit.Intent, fn func() error) error {
	act, err := g.cfg.Record.Begin(ctx, in)
	if err != nil {
		return err
	}
	err = fn()
	out := audit.Outcome{Result: audit.Succeeded}
	if err != nil {
		out = audit.Outcome{Result: audit.Failed, Message: err.Error()}
	}
	return errors.Join(err, act.End(context.WithoutCancel(ctx), out))
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().Prefix(a.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

func validPattern(s string) bool {
	return ops.ValidName(strings.NewReplacer("*", "x", "?", "x").Replace(s))
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

func hashOf(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}

// allows says why the token does not let this process in from there, or nil.
// Expiry and uses are not looked at: they are for who comes first.
func (t Token) allows(id Identity, from netip.Addr) error {
	switch {
	case !t.Revoked.IsZero():
		return ops.Errorf(ops.Denied, "the join token %s was revoked at %s: give the service a new one, `ops join-token create`", t.ID, stamp(t.Revoked))
	case !matches(t.Project, string(id.Project)) || !matches(t.Service, string(id.Service)):
		return ops.Errorf(ops.Denied, "the join token %s is for %s/%s and not for %s/%s: check OPS_PROJECT and OPS_SERVICE, or make a token for them with `ops join-token create`", t.ID, t.Project, t.Service, id.Project, id.Service)
	case len(t.CIDRs) > 0 && !slices.ContainsFunc(t.CIDRs, func(p netip.Prefix) bool { return p.Contains(from) }):
		return ops.Errorf(ops.Denied, "the join token %s may not be used from %s: its networks are %s", t.ID, from, networks(t.CIDRs))
	}
	return nil
}

func networks(all []netip.Prefix) string {
	out := make([]string, len(all))
	for i, p := range all {
		out[i] = p.String()
	}
	return strings.Join(out, ", ")
}

// tokens is the file of tokens.
type tokens struct {
	file string

	mu    sync.Mutex // guards all below; held while the file is written, so that it never goes back
	all   map[string]*Token
	dirty bool
}

func openTokens(file string) (*tokens, error) {
	s := &tokens{file: file, all: map[string]*Token{}}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	var list []*Token
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil {
		return nil, ops.Errorf(ops.Corrupt, "the join tokens in %s: %w: put back a copy of the file, or delete it and make new tokens", file, err)
	}
	for _, t := range list {
		s.all[t.ID] = t
	}
	return s, nil
}

// save writes the file; mu is held.
func (s *tokens) save() error {
	b, err := json.MarshalIndent(s.sorted(), "", " ")
	if err != nil {
		return err
	}
	if err := writeFile(s.file, append(b, '\n')); err != nil {
		return ops.Errorf(ops.Exhausted, "the join tokens could not be written: %w", err)
	}
	s.dirty = false
	return nil
}

func (s *tokens) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dirty {
		return nil
	}
	return s.save()
}

func (s *tokens) sorted() []Token {
	out := make([]Token, 0, len(s.all))
	for _, t := range s.all {
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b Token) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID)) })
	return out
}

func (s *tokens) list() []Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sorted()
}

func (s *tokens) get(id string) (Token, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.all[id]
	if !ok {
		return Token{}, false
	}
	return *t, true
}

func (s *tokens) add(t Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= maxTokens {
		s.prune(t.Created)
	}
	if len(s.all) >= maxTokens {
		return ops.Errorf(ops.Exhausted, "there are %d join tokens already: revoke some with `ops join-token revoke`; one token can serve all processes of a service (--uses 0)", len(s.all))
	}
	s.all[t.ID] = &t
	if err := s.save(); err != nil {
		delete(s.all, t.ID)
		return err
	}
	return nil
}

// prune forgets tokens that have been over for longer than any certificate of
// theirs may be renewed: those that were revoked.
func (s *tokens) prune(now time.Time) {
	for id, t := range s.all {
		if !t.Revoked.IsZero() && now.Sub(t.Revoked) > 30*24*time.Hour {
			delete(s.all, id)
		}
	}
}

func (s *tokens) revoke(id string, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.all[id]
	if t == nil || !t.Revoked.IsZero() {
		return nil
	}
	t.Revoked = now
	if err := s.save(); err != nil {
		t.Revoked = time.Time{}
		return err
	}
	return nil
}

// use takes one use of the token with this secret. What may be used so many
// times only is on the disk before it counts.
func (s *tokens) use(secret string, id Identity, from netip.Addr, now time.Time) (Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, _, _ := strings.Cut(strings.TrimPrefix(secret, TokenPrefix), "_")
	t := s.all[name]
	want := ""
	if t != nil {
		want = t.Hash
	}
	if subtle.ConstantTimeCompare([]byte(hashOf(secret)), []byte(want)) != 1 {
		return Token{}, ops.Errorf(ops.Denied, "the join token is not one of this centre's: check the file that OPS_TOKEN_FILE names, or make a token with `ops join-token create`")
	}
	switch {
	case t.allows(id, from) != nil:
		return *t, t.allows(id, from)
	case !t.Expires.IsZero() && now.After(t.Expires):
		return *t, ops.Errorf(ops.Denied, "the join token %s expired at %s: make a new one with `ops join-token create`", t.ID, stamp(t.Expires))
	case t.MaxUses > 0 && t.Uses >= t.MaxUses:
		return *t, ops.Errorf(ops.Denied, "the join token %s was for %d processes and has been used by as many: make a new one with `ops join-token create`, with --uses for more", t.ID, t.MaxUses)
	}
	before := *t
	t.Uses, t.LastUsed, t.LastFrom, s.dirty = t.Uses+1, now, from.String(), true
	if t.MaxUses > 0 {
		if err := s.save(); err != nil {
			*t = before
			return before, err
		}
	}
	return *t, nil
}
