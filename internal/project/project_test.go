package project

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/ops"
)

func instance(p, s string) ops.Instance {
	return ops.Instance{Project: ops.ProjectName(p), Service: ops.ServiceName(s), Source: "agent", Labels: map[string]string{"zone": "a"}}
}

func TestWhatIsExpectedIsChecked(t *testing.T) {
	for text, p := range map[string]Project{
		"": {Expect: map[ops.ServiceName]int{"user-service": 3}},
		"expect: 0 instances of user-service are out of range: use 1 to 10000":                            {Expect: map[ops.ServiceName]int{"user-service": 0}},
		`expect: "user service" is no name of a service: use letters, digits, dot, underscore and hyphen`: {Expect: map[ops.ServiceName]int{"user service": 3}},
	} {
		got := ""
		if err := p.Validate(); err != nil {
			got = err.Error()
		}
		if got != text {
			t.Errorf("%q, want %q", got, text)
		}
	}
}

func TestWhoMayJoin(t *testing.T) {
	two := Declared{"color-game": {Labels: map[string]string{"team": "core", "zone": "any"}}, "slots": {}}
	for _, c := range []struct {
		name     string
		declared Declared
		refuse   bool
		project  string
		want     string // of the labels, or the error
	}{
		{"nothing is declared", nil, false, "x", "map[zone:a]"},
		{"nothing is declared, and strangers are refused", nil, true, "x", "map[zone:a]"},
		{"declared", two, true, "color-game", "map[team:core zone:a]"},
		{"declared without labels", two, true, "slots", "map[zone:a]"},
		{"a stranger among strangers", two, false, "x", "map[zone:a]"},
		{"the centre itself", two, true, "ops-center", "map[zone:a]"},
		{"a stranger", two, true, "x", "project x is not declared in this centre: add it under projects in the centre's configuration, or set undeclared-projects: accept"},
	} {
		var b Book
		b.Declare(c.declared, c.refuse, "ops-center")
		i, err := b.Admit(instance(c.project, "s"))
		got := fmt.Sprint(i.Labels)
		if err != nil {
			if got = err.Error(); ops.KindOf(err) != ops.Denied {
				t.Errorf("%s: its kind is %s", c.name, ops.KindOf(err))
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if two["color-game"].Labels["zone"] != "any" {
		t.Error("the configuration's own labels were written to")
	}
}

func TestRefusalsAreBoundedAndForgotten(t *testing.T) {
	var b Book
	b.Declare(Declared{"a": {}}, true, "ops-center")
	for n := range maxRefusals + 10 {
		_, _ = b.Admit(instance(fmt.Sprintf("stranger-%d", n), "s"))
		_, _ = b.Admit(instance("again", "s"))
	}
	all := b.Refused()
	if len(all) != maxRefusals || all[0].Project != "again" || all[0].Times != maxRefusals+10 {
		t.Errorf("%d are remembered, first %+v", len(all), all[0])
	}
	b.Declare(Declared{"a": {}, "again": {}}, true, "ops-center")
	for _, r := range b.Refused() {
		if r.Project == "again" {
			t.Error("declared, and still among the refused")
		}
	}
	if b.Declare(nil, true, "ops-center"); len(b.Refused()) != 0 {
		t.Errorf("%v", b.Refused())
	}
}

func TestList(t *testing.T) {
	var b Book
	b.Declare(Declared{"b": {Title: Title{En: "B"}}}, false, "ops-center")
	var got []string
	for _, e := range b.List([]ops.ProjectName{"c", "b", "a", "c"}) {
		got = append(got, fmt.Sprintf("%s %s %v", e.Name, e.Title.En, e.Declared))
	}
	if want := "a  false; b B true; c  false"; strings.Join(got, "; ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestWhatCannotBeDeclared(t *testing.T) {
	for _, c := range []struct {
		what interface{ Validate() error }
		want string
	}{
		{Declared{"a b": {}}, `"a b" is no name of a project: use letters, digits, dot, underscore and hyphen`},
		{Project{Title: Title{En: "two\nlines"}}, `title: "two\nlines" is no title: use one line of at most 80 characters`},
		{Project{Roles: map[string][]string{"a/b": nil}}, `roles: "a/b" is no name of a role: use one such as operator`},
	} {
		if err := c.what.Validate(); err == nil || err.Error() != c.want || ops.KindOf(err) != ops.Invalid {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}
