package auth

import (
	"context"
	"crypto/hmac"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// sessionsEach is how many sessions one user has at once: a few browsers each of
// a few machines. A new one ends the oldest.
const sessionsEach = 20

// seenEvery is how exactly it is known when a session or token was used last.
const seenEvery = time.Minute

// Attempt is somebody who wants in with a password.
type Attempt struct {
	Name, Password string
	// New replaces a password that somebody else made; see ErrChoose.
	New string
	// Address is where from, as far as the centre can trust that.
	Address, UserAgent string
	// Device is what an earlier login left in the browser; see Login.
	Device string
	// Session is what the browser shows as its session, which ends: a secret that
	// somebody may have planted there is not the one that is logged in.
	Session string
}

// Entered is somebody who came in.
type Entered struct {
	// Session goes into the browser's session cookie.
	Session string
	// Device goes into a cookie that outlives it: proof that this browser has been
	// in this account, which is not kept waiting when strangers guess at it.
	Device string
	Holder Holder
}

// errWrong does not tell which of the two is wrong.
var errWrong = ops.Errorf(ops.Denied, "the name or the password is wrong")

// ErrChoose is what who logs in with a password that somebody else made is told: to
// try again with Attempt.New.
var ErrChoose = ops.Errorf(ops.Conflict, "this password was made for you: choose one of your own")

func retryIn(wait time.Duration) error {
	wait = max(wait.Round(time.Second), time.Second)
	return &RetryError{After: wait, Err: ops.Errorf(ops.Exhausted, "too many tries: wait %v and try again", wait)}
}

// Login checks a password and begins a session. It takes as long for a user who
// does not exist as for one who does.
func (a *Accounts) Login(ctx context.Context, t Attempt) (Entered, error) {
	name, err := a.check(ctx, t)
	if err != nil {
		return Entered{}, err
	}
	e, err := a.Enter(ctx, Holder("user:"+name), nil, "password", t)
	e.Device = a.sign("device", name)
	return e, err
}

// LoginForToken checks a password and makes an API token that can do all that the
// user can.
func (a *Accounts) LoginForToken(ctx context.Context, t Attempt, r TokenRequest) (string, APIToken, error) {
	name, err := a.check(ctx, t)
	if err != nil {
		return "", APIToken{}, err
	}
	h := Holder("user:" + name)
	grants, err := a.grantsOf(ctx, h, nil)
	if err != nil {
		return "", APIToken{}, err
	}
	r.Grants = grants
	return a.NewToken(ctx, Actor{Name: string(h), Grants: grants, login: login{holder: h}}, r)
}

// check returns the name of the user whose password it is.
func (a *Accounts) check(ctx context.Context, t Attempt) (string, error) {
	name := strings.ToLower(strings.TrimSpace(t.Name))
	if len(name) > 64 {
		name = name[:64]
	}
	try := tried{address: t.Address, account: name, known: t.Device != "" && hmac.Equal([]byte(t.Device), []byte(a.sign("device", name)))}
	if wait := a.throttle.wait(try); wait > 0 {
		err := retryIn(wait)
		a.Refused(ctx, "user:"+printable(name), t.Address, "login.refused", "password", err)
		return "", err
	}
	u, err := a.verify(ctx, name, t.Password)
	if err != nil {
		if ops.KindOf(err) == ops.Denied {
			a.Refused(ctx, "user:"+printable(name), t.Address, "login.refused", "password", err)
		}
		return "", err
	}
	a.throttle.succeeded(try)
	if !u.Temporary {
		return name, nil
	}
	switch t.New {
	case "":
		return "", ErrChoose
	case t.Password:
		return "", ops.Errorf(ops.Invalid, "the new password is the one that was made for you: choose another")
	}
	return name, a.SetPassword(ctx, "user:"+name, name, t.New, "")
}

// verify returns the user if there is one, who is not disabled and has the password.
func (a *Accounts) verify(ctx context.Context, name, password string) (User, error) {
	u, err := a.Store.User(ctx, name)
	if err != nil && ops.KindOf(err) != ops.NotFound {
		return u, err
	}
	ok, err := a.hasher.verify(ctx, u.Hash, password)
	if err != nil {
		return u, err
	}
	if !ok || u.Disabled {
		return u, errWrong
	}
	return u, nil
}

// Enter begins a session for somebody who has proved who they are.
func (a *Accounts) Enter(ctx context.Context, h Holder, groups []string, how string, t Attempt) (Entered, error) {
	now, secret := a.Now(), random()
	instead := ""
	if t.Session != "" {
		instead = sum(t.Session)
	}
	s := Session{Hash: sum(secret), Holder: h, Groups: groups, Created: now, Seen: now, Address: t.Address, UserAgent: printableUpTo(t.UserAgent, 256)}
	err := a.Store.AddSession(ctx, s, instead, sessionsEach, now.Add(-a.SessionMax), a.event(string(h), "login", how, false, map[string]string{"address": t.Address}))
	return Entered{Session: secret, Holder: h}, a.done(err)
}

var errEnded = ops.Errorf(ops.Denied, "your session has ended: log in again")

// session returns whose session it is.
func (a *Accounts) session(ctx context.Context, hash string) (Actor, error) {
	s, err := a.Store.Session(ctx, hash)
	if ops.KindOf(err) == ops.NotFound {
		return Actor{}, errEnded
	}
	if err != nil {
		return Actor{}, err
	}
	now := a.Now()
	if now.Sub(s.Seen) > a.SessionIdle || now.Sub(s.Created) > a.SessionMax {
		return Actor{}, errEnded
	}
	if name, ok := strings.CutPrefix(string(s.Holder), "user:"); ok {
		if u, err := a.Store.User(ctx, name); err != nil || u.Disabled {
			return Actor{}, errEnded
		}
	}
	if now.Sub(s.Seen) > seenEvery {
		if err := a.Store.SeenSession(ctx, hash, now); err != nil {
			a.Logger.WarnContext(ctx, "it is not noted that a session is used", "err", err)
		}
	}
	grants, err := a.grantsOf(ctx, s.Holder, s.Groups)
	return Actor{Name: string(s.Holder), Grants: grants, login: login{holder: s.Holder, session: hash, groups: s.Groups}}, err
}

// Logout ends the actor's session, or all of theirs.
func (a *Accounts) Logout(ctx context.Context, actor Actor, everywhere bool) (int, error) {
	h := actor.Holder()
	if h == "" {
		return 0, ops.Errorf(ops.Conflict, "%s did not log in: there is nothing to end", actor.Name)
	}
	if actor.login.session == "" && !everywhere {
		return 1, a.logoutToken(ctx, actor)
	}
	hash, action := actor.login.session, "logout"
	if everywhere {
		hash, action = "", "logout.everywhere"
	}
	n, err := a.Store.EndSessions(ctx, h, hash, "", a.event(actor.Name, action, string(h), false, nil))
	return n, a.done(err)
}

// logoutToken revokes the token that the actor shows: `ops login` made it.
func (a *Accounts) logoutToken(ctx context.Context, actor Actor) error {
	t, err := a.Store.Token(ctx, actor.login.token)
	if err != nil {
		return err
	}
	return a.done(a.Store.RevokeToken(ctx, t.ID, a.Now(), a.event(actor.Name, "token.revoke", t.Name, true, map[string]string{"id": t.ID})))
}

// EndSessions ends all sessions of somebody.
func (a *Accounts) EndSessions(ctx context.Context, by string, h Holder) (int, error) {
	n, err := a.Store.EndSessions(ctx, h, "", "", a.event(by, "session.end", string(h), true, nil))
	return n, a.done(err)
}

// Current reports which of the sessions is the actor's own.
func (a *Accounts) Current(actor Actor, s Session) bool {
	return actor.login.session != "" && actor.login.session == s.Hash
}
