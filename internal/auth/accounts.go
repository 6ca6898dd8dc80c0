package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/ops"
)

// AccountsConfig is what Accounts need.
type AccountsConfig struct {
	Store Store
	// Record takes events over; nil = they wait for a centre that has one.
	Record audit.Recorder
	// Groups are grants of OIDC groups that the configuration gives, besides those
	// in the store.
	Groups map[string][]Grant
	// SessionIdle and SessionMax end a session; 0 = 12 h without a request, 7 days.
	SessionIdle, SessionMax time.Duration
	// PasswordKiB is what hashing a password takes; 0 = 19 MiB, as OWASP says. Less
	// is for tests.
	PasswordKiB int
	Logger      *slog.Logger     // nil = silent
	Now         func() time.Time // nil = time.Now
}

// Accounts are the people and programs that may come in, their sessions and
// tokens, and who of them may do what.
type Accounts struct {
	AccountsConfig
	hasher   *hasher
	throttle *throttle
	noted    *throttle // bounds how many refusals come on record
	secret   []byte
	wake     chan struct{} // an event waits
	declared atomic.Pointer[map[Holder][]Grant]
}

// NewAccounts reads what it needs of the store. It starts nothing.
func NewAccounts(ctx context.Context, cfg AccountsConfig) (*Accounts, error) {
	cfg.SessionIdle, cfg.SessionMax = cmp.Or(cfg.SessionIdle, 12*time.Hour), cmp.Or(cfg.SessionMax, 7*24*time.Hour)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	secret, err := cfg.Store.Secret(ctx)
	if err != nil {
		return nil, err
	}
	return &Accounts{
		AccountsConfig: cfg, hasher: newHasher(cmp.Or(cfg.PasswordKiB, argonMemory)), throttle: newThrottle(cfg.Now), noted: newThrottle(cfg.Now), secret: secret, wake: make(chan struct{}, 1),
	}, nil
}

var userName = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,63}$`)

// CleanName returns the name as it is kept: lower case, without white space
// around it.
func CleanName(name string) (string, error) {
	clean := strings.ToLower(strings.TrimSpace(name))
	if !userName.MatchString(clean) {
		return "", ops.Errorf(ops.Invalid, "%.80q is no user name: use up to 64 of a-z, 0-9, dot, hyphen, underscore and @, beginning with a letter or digit", name)
	}
	return clean, nil
}

// event is one that went well, made by an actor.
func (a *Accounts) event(by, action, subject string, mutating bool, request any) Event {
	e := Event{At: a.Now(), Actor: by, Action: action, Subject: subject, Result: audit.Succeeded, Mutating: mutating}
	if request != nil {
		e.Request, _ = json.Marshal(request) //nolint:errchkjson // made of strings
	}
	return e
}

// done wakes who takes events over.
func (a *Accounts) done(err error) error {
	if err == nil {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
	return err
}

func texts(grants []Grant) []string {
	out := make([]string, len(grants))
	for i, g := range grants {
		out[i] = g.String()
	}
	return out
}

// AddUser adds somebody with a password of their own; Conflict when the name is
// taken.
func (a *Accounts) AddUser(ctx context.Context, by, name, password string, grants []Grant) error {
	return a.addUser(ctx, by, name, password, grants, false)
}

// Invite adds somebody with a password that they have to change when they log in
// first; Conflict when the name is taken.
func (a *Accounts) Invite(ctx context.Context, by, name, password string, grants []Grant) error {
	return a.addUser(ctx, by, name, password, grants, true)
}

func (a *Accounts) addUser(ctx context.Context, by, name, password string, grants []Grant, temporary bool) error {
	name, err := CleanName(name)
	if err != nil {
		return err
	}
	if err := CheckPassword(name, password); err != nil {
		return err
	}
	if _, err := a.Store.User(ctx, name); err == nil {
		return ops.Errorf(ops.Conflict, "there is a user %s already: change the password with `ops user password %s`, or roles with `ops user grant %s`", name, name, name)
	} else if ops.KindOf(err) != ops.NotFound {
		return err
	}
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	if grants == nil {
		grants = []Grant{}
	}
	return a.done(a.Store.PutUser(ctx, User{Name: name, Hash: hash, Created: a.Now(), Temporary: temporary}, grants, "", a.event(by, "user.add", name, true, map[string]any{"grants": texts(grants)})))
}

// SetPassword gives a user a new password and ends their sessions, but for keep.
func (a *Accounts) SetPassword(ctx context.Context, by, name, password, keep string) error {
	return a.setPassword(ctx, by, name, password, keep, false)
}

// ResetPassword gives a user a new password that they have to change when they log
// in next, and ends their sessions.
func (a *Accounts) ResetPassword(ctx context.Context, by, name, password string) error {
	return a.setPassword(ctx, by, name, password, "", true)
}

func (a *Accounts) setPassword(ctx context.Context, by, name, password, keep string, temporary bool) error {
	u, err := a.Store.User(ctx, name)
	if err != nil {
		return err
	}
	if err := CheckPassword(name, password); err != nil {
		return err
	}
	if u.Hash, err = a.hasher.hash(ctx, password); err != nil {
		return err
	}
	u.Temporary = temporary
	return a.done(a.Store.PutUser(ctx, u, nil, keep, a.event(by, "user.password", name, true, nil)))
}

// ChangePassword is what users do for themselves: the old password proves that
// it is them and not somebody at their desk.
func (a *Accounts) ChangePassword(ctx context.Context, actor Actor, old, password string) error {
	name, ok := strings.CutPrefix(string(actor.Holder()), "user:")
	if !ok {
		return ops.Errorf(ops.Conflict, "%s has no password here: change it where it was made", actor.Name)
	}
	try := tried{address: "password of " + name, account: name, known: true}
	if wait := a.throttle.wait(try); wait > 0 {
		return retryIn(wait)
	}
	u, err := a.Store.User(ctx, name)
	if err != nil {
		return err
	}
	ok, err = a.hasher.verify(ctx, u.Hash, old)
	if err != nil {
		return err
	}
	if !ok {
		return ops.Errorf(ops.Denied, "the present password is another one: type it again")
	}
	a.throttle.succeeded(try)
	return a.SetPassword(ctx, actor.Name, name, password, actor.login.session)
}

// DisableUser keeps a user out, or lets them in again. The last one who may
// administer stays.
func (a *Accounts) DisableUser(ctx context.Context, by, name string, disabled bool) error {
	u, err := a.Store.User(ctx, name)
	if err != nil {
		return err
	}
	action := "user.enable"
	if disabled {
		action = "user.disable"
		if err := a.notTheLast(ctx, name, nil); err != nil {
			return err
		}
	}
	u.Disabled = disabled
	return a.done(a.Store.PutUser(ctx, u, nil, "", a.event(by, action, name, true, nil)))
}

// RemoveUser deletes a user with all that is theirs.
func (a *Accounts) RemoveUser(ctx context.Context, by, name string) error {
	if _, err := a.Store.User(ctx, name); err != nil {
		return err
	}
	if err := a.notTheLast(ctx, name, nil); err != nil {
		return err
	}
	return a.done(a.Store.DeleteUser(ctx, name, a.event(by, "user.remove", name, true, nil)))
}

// notTheLast refuses what would leave nobody with a password who administers the
// whole centre: without the user, or, if given, without one grant of theirs.
func (a *Accounts) notTheLast(ctx context.Context, name string, without *Grant) error {
	if without != nil && *without != (Grant{Administer, Everywhere}) {
		return nil
	}
	users, err := a.Store.Users(ctx)
	if err != nil {
		return err
	}
	admins, isOne := 0, false
	for _, u := range users {
		grants, err := a.Store.Grants(ctx, Holder("user:"+u.Name))
		if err != nil {
			return err
		}
		if !u.Disabled && slices.Contains(grants, Grant{Administer, Everywhere}) {
			admins++
			isOne = isOne || u.Name == name
		}
	}
	if isOne && admins == 1 {
		return ops.Errorf(ops.Conflict, "%s is the last user who administers this centre: give somebody else the role first, with `ops user grant NAME admin`", name)
	}
	return nil
}

// Bind gives a grant; the giver must hold what is given.
func (a *Accounts) Bind(ctx context.Context, by Actor, b Binding) error {
	if err := a.checkHolder(ctx, b.Holder); err != nil {
		return err
	}
	if !within(b.Grant, by) {
		return ops.Errorf(ops.Denied, "%s cannot give away %s without holding it", by.Name, b.Grant)
	}
	return a.done(a.Store.Bind(ctx, b, a.event(by.Name, "role.grant", string(b.Holder), true, map[string]string{"grant": b.Grant.String()})))
}

// Unbind takes a grant back.
func (a *Accounts) Unbind(ctx context.Context, by Actor, b Binding) error {
	if name, ok := strings.CutPrefix(string(b.Holder), "user:"); ok {
		if err := a.notTheLast(ctx, name, &b.Grant); err != nil {
			return err
		}
	}
	return a.done(a.Store.Unbind(ctx, b, a.event(by.Name, "role.revoke", string(b.Holder), true, map[string]string{"grant": b.Grant.String()})))
}

// checkHolder refuses what can never log in.
func (a *Accounts) checkHolder(ctx context.Context, h Holder) error {
	kind, name, _ := strings.Cut(string(h), ":")
	switch {
	case kind == "user" && name != "":
		_, err := a.Store.User(ctx, name)
		return err
	case (kind == "group" || kind == "oidc") && name != "" && len(name) <= 200:
		return nil
	}
	return ops.Errorf(ops.Invalid, "%.80q cannot hold a role: use user:NAME, group:NAME or oidc:NAME", h)
}

// Declare replaces the grants that the configuration gives besides Groups. They
// hold from the next request of each holder on, in open streams within seconds.
func (a *Accounts) Declare(grants map[Holder][]Grant) { a.declared.Store(&grants) }

// grantsOf is what a holder and their groups may do now.
func (a *Accounts) grantsOf(ctx context.Context, h Holder, groups []string) ([]Grant, error) {
	holders := []Holder{h}
	var out []Grant
	for _, g := range groups {
		holders = append(holders, Holder("group:"+g))
		out = append(out, a.Groups[g]...)
	}
	if declared := a.declared.Load(); declared != nil {
		for _, holder := range holders {
			out = append(out, (*declared)[holder]...)
		}
	}
	more, err := a.Store.Grants(ctx, holders...)
	return append(out, more...), err
}

// AnyoneCanAdminister reports whether somebody with a password could come in and
// do everything.
func (a *Accounts) AnyoneCanAdminister(ctx context.Context) (bool, error) {
	users, err := a.Store.Users(ctx)
	if err != nil {
		return false, err
	}
	for _, u := range users {
		grants, err := a.Store.Grants(ctx, Holder("user:"+u.Name))
		if err != nil {
			return false, err
		}
		if !u.Disabled && slices.Contains(grants, Grant{Administer, Everywhere}) {
			return true, nil
		}
	}
	return false, nil
}

// Refused puts on record that somebody was not let do something. Who is refused
// again and again is not written down each time: the record is no place to fill
// a disk with.
func (a *Accounts) Refused(ctx context.Context, actor, address, action, subject string, err error) {
	if a.noted.wait(tried{address: "of " + actor + " " + action, account: address}) > 0 {
		return
	}
	e := Event{At: a.Now(), Actor: cmp.Or(actor, "nobody"), Action: action, Subject: subject, Result: audit.Refused, Message: err.Error()}
	if address != "" {
		e.Request, _ = json.Marshal(map[string]string{"address": address}) //nolint:errchkjson // a string
	}
	if err := a.done(a.Store.Note(context.WithoutCancel(ctx), e)); err != nil {
		a.Logger.WarnContext(ctx, "a refusal is not on record", "actor", actor, "action", action, "err", err)
	}
}

// takeOver is how often events are looked for that the command line left.
const takeOver = 5 * time.Second

// Run moves events to the record until ctx ends.
func (a *Accounts) Run(ctx context.Context) error {
	t := time.NewTicker(takeOver)
	defer t.Stop()
	for {
		if err := a.drain(ctx); err != nil && ctx.Err() == nil {
			a.Logger.WarnContext(ctx, "what happened at the door is not on record yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return a.drainLast(ctx)
		case <-a.wake:
		case <-t.C:
		}
	}
}

func (a *Accounts) drain(ctx context.Context) error {
	for a.Record != nil {
		events, err := a.Store.Events(ctx, 100)
		if err != nil || len(events) == 0 {
			return err
		}
		for _, e := range events {
			// The key keeps an event from being told twice by a centre that ends in
			// between.
			act, err := a.Record.Begin(ctx, audit.Intent{
				Actor: e.Actor, Action: e.Action, Subject: e.Subject, Mutating: e.Mutating, Request: e.Request,
				Key: "door-" + e.At.UTC().Format("20060102T150405.000000000"),
			})
			if err != nil && ops.KindOf(err) != ops.Conflict {
				return err
			}
			if err == nil {
				if err := act.End(ctx, audit.Outcome{Result: e.Result, Message: e.Message}); err != nil {
					return err
				}
			}
			if err := a.Store.Forget(ctx, e.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// random returns 256 bits that nobody can guess, for a URL or a header.
func random() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// sum is what is kept of a secret. It needs no salt: the secret is random.
func sum(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}

// sign is the proof that this centre said something.
func (a *Accounts) sign(what, text string) string {
	m := hmac.New(sha256.New, a.secret)
	m.Write([]byte(what + "\x00" + text))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// drainLast moves what is left when the centre ends.
func (a *Accounts) drainLast(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeOver)
	defer cancel()
	return a.drain(ctx)
}
