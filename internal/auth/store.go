package auth

import (
	"context"
	"encoding/json"
	"time"

	"github.com/opscenter/opscenter/internal/audit"
)

// User is somebody who logs in with a password.
type User struct {
	Name string
	// Hash of the password, in the PHC format.
	Hash      string
	Disabled  bool
	Created   time.Time
	LastLogin time.Time // zero = never
	// Temporary says that somebody else made the password: it is good for choosing
	// one's own, and for nothing else.
	Temporary bool
}

// Holder names who holds grants: "user:ann", "oidc:ann@example.com",
// "group:sre", "token:<id>".
type Holder string

// Binding gives a role to a holder.
type Binding struct {
	Holder Holder
	Grant
}

// Session is a login that lasts. Its secret is with the browser, its hash here.
type Session struct {
	Hash string // SHA-256 of the cookie's value, hex
	// Holder is who logged in, Groups what their provider said of them.
	Holder    Holder
	Groups    []string
	Created   time.Time
	Seen      time.Time
	Address   string
	UserAgent string
}

// APIToken is what a program shows instead of a login.
type APIToken struct {
	ID   string
	Hash string // SHA-256 of the whole token, hex
	// Name is what its maker calls it.
	Name string
	// Owner's rights bound the token's; empty = nobody's do. Groups are what the
	// owner's provider said of them when it was made.
	Owner   Holder
	Groups  []string
	Created time.Time
	Expires time.Time
	Used    time.Time // zero = never; noted once a minute
	Revoked time.Time // zero = it is not
}

// Event is something for the record. It is kept with the change that it tells
// of, and waits there until a centre takes it over.
type Event struct {
	ID      int64           `json:"-"`
	At      time.Time       `json:"at"`
	Actor   string          `json:"actor"`
	Action  string          `json:"action"`
	Subject string          `json:"subject"`
	Result  audit.Result    `json:"result"`
	Message string          `json:"message,omitempty"`
	Request json.RawMessage `json:"request,omitempty"`
	// Mutating events change who may do what.
	Mutating bool `json:"mutating,omitempty"`
}

// Store keeps who may come in. A change and its event are one transaction, and
// survive a power cut when the call returns. A running centre and the command
// line may use the same files at once.
type Store interface {
	// User is NotFound when there is none.
	User(ctx context.Context, name string) (User, error)
	Users(ctx context.Context) ([]User, error)
	// PutUser adds a user with grants, or replaces one's fields (nil grants: keeps
	// theirs). A new password or Disabled ends the user's sessions but for keep.
	PutUser(ctx context.Context, u User, grants []Grant, keep string, e Event) error
	// DeleteUser deletes the user with sessions, tokens and bindings.
	DeleteUser(ctx context.Context, name string, e Event) error

	Bindings(ctx context.Context) ([]Binding, error)
	// Grants returns what the holders have.
	Grants(ctx context.Context, holders ...Holder) ([]Grant, error)
	Bind(ctx context.Context, b Binding, e Event) error
	// Unbind is NotFound when there is no such binding.
	Unbind(ctx context.Context, b Binding, e Event) error

	// Session is NotFound when there is none.
	Session(ctx context.Context, hash string) (Session, error)
	Sessions(ctx context.Context, h Holder) ([]Session, error)
	// AddSession adds one in place of another (empty = of none), keeps at most
	// `most` of the holder's, the newest, and deletes those that began before
	// `before`.
	AddSession(ctx context.Context, s Session, instead string, most int, before time.Time, e Event) error
	SeenSession(ctx context.Context, hash string, at time.Time) error
	// EndSessions ends one session, or, if hash is empty, all of the holder's but
	// keep; it returns how many.
	EndSessions(ctx context.Context, h Holder, hash, keep string, e Event) (int, error)

	// Token is NotFound when there is none with that hash.
	Token(ctx context.Context, hash string) (APIToken, error)
	Tokens(ctx context.Context) ([]APIToken, error)
	AddToken(ctx context.Context, t APIToken, grants []Grant, e Event) error
	UsedToken(ctx context.Context, id string, at time.Time) error
	// RevokeToken is NotFound when there is none, or it is revoked already.
	RevokeToken(ctx context.Context, id string, at time.Time, e Event) error

	// Note keeps an event without a change.
	Note(ctx context.Context, e Event) error
	// Events returns the oldest ones, at most so many.
	Events(ctx context.Context, most int) ([]Event, error)
	// Forget deletes the events up to that id.
	Forget(ctx context.Context, upTo int64) error
	// Secret is made of 32 random bytes when the store is, and never changes.
	Secret(ctx context.Context) ([]byte, error)
}
