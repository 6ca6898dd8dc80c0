package auth

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/ops"
)

func TestWhatEachRoleMayDo(t *testing.T) {
	var b strings.Builder
	for _, r := range Roles() {
		fmt.Fprintf(&b, "%s:", r)
		for _, p := range All() {
			if (Actor{Grants: []Grant{{r, Everywhere}}}).May(p, Subject{}) {
				fmt.Fprintf(&b, " %s", p)
			}
		}
		b.WriteString("\n")
	}
	want := `viewer: view
operator: view download capture
controller: view download capture control audit
auditor: view audit
admin: view download capture delete control audit admin
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}

func TestScopes(t *testing.T) {
	for scope, holds := range map[string]string{
		"*":                 "whole color color/user color/wallet chess/user",
		"color":             "color color/user color/wallet",
		"color/user":        "color/user",
		"color/*":           "color color/user color/wallet",
		"c*":                "color color/user color/wallet chess/user",
		"*/user":            "color/user chess/user",
		"color/?ser":        "color/user",
		"chess":             "chess/user",
		"colo":              "",
		"color/user-shadow": "",
	} {
		s, err := ParseScope(scope)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range []struct {
			name string
			on   Subject
		}{{"whole", Subject{}}, {"color", Subject{Project: "color"}}, {"color/user", Subject{"color", "user"}}, {"color/wallet", Subject{"color", "wallet"}}, {"chess/user", Subject{"chess", "user"}}} {
			if s.Covers(c.on) {
				got = append(got, c.name)
			}
		}
		if strings.Join(got, " ") != holds {
			t.Errorf("%s covers %q, want %q", scope, got, holds)
		}
	}
	for _, bad := range []string{"color/", "/user", "a b", "color/user/x", "color/[a-z]", "../x"} {
		if s, err := ParseScope(bad); err == nil {
			t.Errorf("%q is taken as %q", bad, s)
		}
	}
}

func TestAGrantIsReadAndShown(t *testing.T) {
	for text, want := range map[string]string{
		"viewer": "viewer", "operator@color": "operator on color", "controller@color/user-*": "controller on color/user-*", "admin@*": "admin",
		"king":     `the role "king" is unknown: use viewer, operator, controller, auditor or admin`,
		"viewer@ ": `the scope " " is no pattern: use *, a project such as color-game, or project/service such as color-game/user-*`,
	} {
		g, err := ParseGrant(text)
		got := g.String()
		if err != nil {
			got = err.Error()
			if ops.KindOf(err) != ops.Invalid {
				t.Errorf("%q: %s", text, ops.KindOf(err))
			}
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestDenialsSayWhatIsMissingAndWhere(t *testing.T) {
	ann := Actor{Name: "user:ann", Grants: []Grant{{Operator, "color/user"}, {Viewer, "chess"}}}
	for _, c := range []struct {
		need Permission
		on   []Subject
		want string
	}{
		{View, []Subject{{"chess", "lobby"}, {"color", "user"}}, ""},
		{Capture, []Subject{{"color", "user"}}, ""},
		{Capture, []Subject{{"color", "user"}, {"chess", "lobby"}}, `user:ann may not do this: it needs the permission "capture" on chess/lobby`},
		{View, []Subject{{Project: "color"}}, `user:ann may not do this: it needs the permission "view" on project color`},
		{View, nil, `user:ann may not do this: it needs the permission "view" on the whole centre`},
		{Control, nil, `user:ann may not do this: it needs the permission "control"`},
		{View, []Subject{{Service: "user"}}, `user:ann may not do this: it needs the permission "view" on user of every project`},
	} {
		err := grants{}.Authorize(ann, c.need, c.on...)
		if got := fmt.Sprint(err); got != c.want && (err != nil || c.want != "") {
			t.Errorf("%s on %v: %s, want %s", c.need, c.on, got, c.want)
		}
	}
}

func TestNobodyGivesAwayMoreThanTheyHold(t *testing.T) {
	ann := Actor{Grants: []Grant{{Operator, "color"}}}
	for text, want := range map[string]bool{
		"viewer@color": true, "operator@color/user": true, "operator@color": true,
		"viewer": false, "controller@color": false, "operator@chess": false, "operator@color-x": false, "operator@c*": false,
	} {
		g, err := ParseGrant(text)
		if err != nil {
			t.Fatal(err)
		}
		if within(g, ann) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}
