package auth

import (
	"path"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/ops"
)

// Role is a set of permissions that people know by one word.
type Role string

// The roles.
const (
	Viewer     Role = "viewer"     // looks
	Operator   Role = "operator"   // and captures, and takes raw files away
	Controller Role = "controller" // and changes instances
	Administer Role = "admin"      // everything, users and tokens included
	Auditor    Role = "auditor"    // looks, and reads the record
)

// roles is what each role holds, in the order in which people learn them. No
// role holds Join: agents are not people, and have tokens of their own.
var roles = []struct {
	role  Role
	holds []Permission
}{
	{Viewer, []Permission{View}},
	{Operator, []Permission{View, Download, Capture}},
	{Controller, []Permission{View, Download, Capture, Control, Audit}},
	{Auditor, []Permission{View, Audit}},
	{Administer, []Permission{View, Download, Capture, Delete, Control, Audit, Admin}},
}

// Roles lists every role.
func Roles() []Role {
	out := make([]Role, len(roles))
	for i, r := range roles {
		out[i] = r.role
	}
	return out
}

// ParseRole reads the name of a role.
func ParseRole(s string) (Role, error) {
	for _, r := range roles {
		if string(r.role) == s {
			return r.role, nil
		}
	}
	return "", ops.Errorf(ops.Invalid, "the role %.40q is unknown: use viewer, operator, controller, auditor or admin", s)
}

// Permissions lists what the role holds.
func (r Role) Permissions() []Permission {
	for _, x := range roles {
		if x.role == r {
			return slices.Clone(x.holds)
		}
	}
	return nil
}

// Scope is where a role holds: "*" everywhere, "color-game" in a project,
// "color-game/user-*" on services of it. Both parts are patterns in which * and
// ? stand for what they stand for in a shell.
type Scope string

// Everywhere is the scope of the whole centre.
const Everywhere Scope = "*"

// ParseScope reads a scope; empty means everywhere.
func ParseScope(s string) (Scope, error) {
	if s == "" || s == "*" || s == "*/*" {
		return Everywhere, nil
	}
	project, service, both := strings.Cut(s, "/")
	if both && service == "*" {
		s, both = project, false
	}
	for _, part := range []string{project, service} {
		if part == "" && (both || part == project) || !ops.ValidName(strings.NewReplacer("*", "x", "?", "x").Replace(part)) && part != "" {
			return "", ops.Errorf(ops.Invalid, "the scope %.80q is no pattern: use *, a project such as color-game, or project/service such as color-game/user-*", s)
		}
	}
	return Scope(s), nil
}

// Covers reports whether the scope holds all of the subject: a scope of one
// service does not cover its project.
func (s Scope) Covers(subject Subject) bool {
	if s == Everywhere {
		return true
	}
	project, service, narrow := strings.Cut(string(s), "/")
	if subject.Project == "" || !matches(project, string(subject.Project)) {
		return false
	}
	return !narrow || subject.Service != "" && matches(service, string(subject.Service))
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

// Grant is a role somewhere.
type Grant struct {
	Role  Role
	Scope Scope
}

func (g Grant) String() string {
	if g.Scope == Everywhere {
		return string(g.Role)
	}
	return string(g.Role) + " on " + string(g.Scope)
}

// ParseGrant reads "role" or "role@scope".
func ParseGrant(s string) (Grant, error) {
	name, where, _ := strings.Cut(s, "@")
	role, err := ParseRole(name)
	if err != nil {
		return Grant{}, err
	}
	scope, err := ParseScope(where)
	return Grant{Role: role, Scope: scope}, err
}

// May reports whether the actor holds the permission on all of the subject.
func (a Actor) May(need Permission, on Subject) bool {
	return slices.Contains(a.Permissions, need) || slices.ContainsFunc(a.Grants, func(g Grant) bool {
		return g.Scope.Covers(on) && slices.Contains(g.Role.Permissions(), need)
	})
}

// Somewhere reports whether the actor holds the permission on anything at all.
func (a Actor) Somewhere(need Permission) bool {
	return slices.Contains(a.Permissions, need) || slices.ContainsFunc(a.Grants, func(g Grant) bool {
		return slices.Contains(g.Role.Permissions(), need)
	})
}

// within reports whether a holder of these grants could give g away: it gives no
// more than they hold.
func within(g Grant, held Actor) bool {
	for _, p := range g.Role.Permissions() {
		covered := slices.Contains(held.Permissions, p) || slices.ContainsFunc(held.Grants, func(h Grant) bool {
			return slices.Contains(h.Role.Permissions(), p) && (h.Scope == Everywhere || h.Scope == g.Scope || strings.HasPrefix(string(g.Scope), string(h.Scope)+"/"))
		})
		if !covered {
			return false
		}
	}
	return true
}
