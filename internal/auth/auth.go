// Package auth says who a caller is and what they may do: every request passes
// its one Authorizer and carries an Actor afterwards. It knows nothing of
// captures or instances, only of permissions and of how HTTP requests prove who
// sent them.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"strings"

	"github.com/opscenter/opscenter/internal/ops"
)

// Permission is what a caller must hold to make a call.
type Permission string

// The permissions.
const (
	View     Permission = "view"     // see instances, captures and rendered views
	Download Permission = "download" // raw artifacts and bundles
	Capture  Permission = "capture"  // start, stop, cancel, pin and import captures
	Delete   Permission = "delete"   // delete captures
	Control  Permission = "control"  // run controls and call gRPC methods
	Audit    Permission = "audit"    // read the record of who did what
	Admin    Permission = "admin"    // users, tokens, roles and the centre's configuration
	Join     Permission = "join"     // be an agent
)

// All lists every permission, for those who hold all.
func All() []Permission {
	return []Permission{View, Download, Capture, Delete, Control, Audit, Admin, Join}
}

// Subject is what a request is about: a service of a project. Either part may be
// empty, which means every one: the zero Subject is the whole centre.
type Subject struct {
	Project ops.ProjectName
	Service ops.ServiceName
}

func (s Subject) String() string {
	switch {
	case s == Subject{}:
		return "the whole centre"
	case s.Service == "":
		return "project " + string(s.Project)
	case s.Project == "":
		return string(s.Service) + " of every project"
	}
	return string(s.Project) + "/" + string(s.Service)
}

// Actor is who makes a request.
type Actor struct {
	// Name is how records show them: "local:ann", "user:ann", "api:deploy".
	Name string
	// Permissions they hold everywhere.
	Permissions []Permission
	// Grants are what they hold somewhere.
	Grants []Grant

	login login // how a login or an API token proved it; zero for others
}

// Authorizer decides about every request. Implementations are safe for
// concurrent use.
type Authorizer interface {
	// Authenticate returns who sent the request, or a Denied error that says what
	// is missing and how to supply it.
	Authenticate(r *http.Request) (Actor, error)
	// Authorize returns nil if the actor holds the permission on every one of the
	// subjects, or, if there are none, on the whole centre; else a Denied error
	// that names what is missing.
	Authorize(actor Actor, need Permission, on ...Subject) error
}

// Allow authenticates and authorizes in one step.
func Allow(a Authorizer, r *http.Request, need Permission) (Actor, error) {
	actor, err := a.Authenticate(r)
	if err != nil {
		return Actor{}, err
	}
	return actor, a.Authorize(actor, need)
}

type actorKey struct{}

// WithActor returns a context that carries the actor.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf returns the actor of a request's context; the zero Actor holds nothing.
func ActorOf(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	return a
}

// grants is the part both authorizers share: hold it or not.
type grants struct{}

func (grants) Authorize(actor Actor, need Permission, on ...Subject) error {
	if len(on) == 0 {
		on = []Subject{{}}
	}
	for _, subject := range on {
		if actor.May(need, subject) {
			continue
		}
		if subject == (Subject{}) && !actor.Somewhere(need) {
			return ops.Errorf(ops.Denied, "%s may not do this: it needs the permission %q", actor.Name, need)
		}
		return ops.Errorf(ops.Denied, "%s may not do this: it needs the permission %q on %s", actor.Name, need, subject)
	}
	return nil
}

// Loopback is the authorizer of a centre that listens on loopback only: whoever
// reaches it is a user of this machine and may do everything.
type Loopback struct {
	grants
	name string
}

// NewLoopback names its actor after the operating system's user.
func NewLoopback() *Loopback {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return &Loopback{name: "local:" + name}
}

// Authenticate refuses peers that are not on loopback, whatever the listener was
// meant to be.
func (l *Loopback) Authenticate(r *http.Request) (Actor, error) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !net.ParseIP(host).IsLoopback() {
		return Actor{}, ops.Errorf(ops.Denied, "this centre serves its own machine only: start it with --listen, --tls-cert, --tls-key and --token-file to serve others")
	}
	return Actor{Name: l.name, Permissions: All()}, nil
}

// Token is the authorizer of a centre with one shared token, which people and
// agents present as "Authorization: Bearer …". Browsers present it as the
// password of HTTP basic authentication, whose user name becomes the actor's.
type Token struct {
	grants
	sum [sha256.Size]byte
}

// MinTokenLength keeps guessable tokens out.
const MinTokenLength = 16

// NewToken reads the token from a file; surrounding white space does not count.
func NewToken(file string) (*Token, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, ops.Errorf(ops.Invalid, "--token-file: %w", err)
	}
	secret := strings.TrimSpace(string(b))
	if len(secret) < MinTokenLength {
		return nil, ops.Errorf(ops.Invalid, "--token-file %s: the token has %d characters and needs at least %d: make one with `openssl rand -hex 32 > %s`", file, len(secret), MinTokenLength, file)
	}
	return &Token{sum: sha256.Sum256([]byte(secret))}, nil
}

// Authenticate compares hashes in constant time.
func (t *Token) Authenticate(r *http.Request) (Actor, error) {
	name, secret := "token", ""
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		secret = bearer
	} else if u, p, ok := r.BasicAuth(); ok {
		name, secret = "token:"+printable(u), p
	} else {
		return Actor{}, ops.Errorf(ops.Denied, "this centre wants its token: in a browser it is the password, with any name; for the CLI give --token-file or OPS_TOKEN; others send `Authorization: Bearer …`")
	}
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(sum[:], t.sum[:]) != 1 {
		return Actor{}, ops.Errorf(ops.Denied, "the token is not this centre's: compare it with the file given to --token-file")
	}
	return Actor{Name: name, Permissions: All()}, nil
}

// printable keeps a name short and free of control characters for the record.
func printable(s string) string { return printableUpTo(s, 64) }

func printableUpTo(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return strings.Trim(fmt.Sprintf("%q", s), `"`)
}
