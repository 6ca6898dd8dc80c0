package app

import (
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/discovery"
)

func sourcesOf(t *testing.T, kept *keptSources, text string) []discovery.Source {
	t.Helper()
	f, err := config.Parse("ops.yaml", []byte(text), func(string) string { return "from the environment" })
	if err != nil {
		t.Fatal(err)
	}
	var sec sections
	var all config.Schema
	for _, s := range sec.list() { // of the others, the examples need files
		if s.Key == "sources" || s.Key == "projects" {
			all.Sections = append(all.Sections, s)
		}
	}
	if _, err := all.Load(config.Inputs{File: f}); err != nil {
		t.Fatal(err)
	}
	out, err := kept.sources(cli.ServeOptions{Logger: slog.New(slog.DiscardHandler)}, sec)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestTheExamplesAreRight: what `ops config init` shows of sources and projects
// can be taken as it is, but for Kubernetes, which needs a cluster.
func TestTheExamplesAreRight(t *testing.T) {
	example := sourcesExample
	if i := strings.Index(example, "  kubernetes:"); i > 0 {
		example = example[:i]
	}
	var names []string
	for _, s := range sourcesOf(t, new(keptSources), example+projectsExample) {
		names = append(names, s.Name())
	}
	// Every kind of source is shown, and every section, with what it is for.
	for f := range reflect.TypeFor[sourcesSection]().Fields() {
		if key := f.Tag.Get("yaml"); key == "" || !strings.Contains(sourcesExample, "\n  "+key+":\n") {
			t.Errorf("the example does not show sources.%s", key)
		}
	}
	for _, s := range new(sections).list() {
		if s.About == "" || !strings.HasPrefix(strings.TrimSpace(s.Example), s.Key+":\n") {
			t.Errorf("the section %s has no example, or does not say what it is for", s.Key)
		}
	}
	if len(names) != 8 || names[0] != "static" || names[7] != "static of color-game" {
		t.Errorf("%q", names)
	}
}

func TestOnlyWhatChangedIsMadeAnew(t *testing.T) {
	var kept keptSources
	text := "sources: {http-sd: [{url: \"http://a\"}, {url: \"http://b\"}, {url: \"http://b\", refresh: %s}]}\nprojects: {game: {sources: {http-sd: [{url: \"http://a\"}]}}}\n"
	before := sourcesOf(t, &kept, fmt.Sprintf(text, "10s"))
	after := sourcesOf(t, &kept, fmt.Sprintf(text, "20s"))
	if len(before) != 4 || len(after) != 4 {
		t.Fatalf("%d and %d sources", len(before), len(after))
	}
	names := map[string]bool{}
	for i := range before {
		names[after[i].Name()] = true
		if same := before[i] == after[i]; same != (i != 2) {
			t.Errorf("%s: the same is %v", after[i].Name(), same)
		}
	}
	if len(names) != 4 {
		t.Errorf("names are not their own: %v", names)
	}
}

func TestWhoMayHoldARoleInAProject(t *testing.T) {
	for roles, want := range map[string]string{
		"{operater: [sre]}":       `ops.yaml:2:17: projects.game.roles: the role "operater" is unknown: use viewer, operator, controller, auditor or admin`,
		`{operator: ["ann:bob"]}`: `ops.yaml:2:17: projects.game.roles: "ann:bob" cannot hold a role: use a group's name, or user:NAME, group:NAME, oidc:NAME`,
		`{operator: [""]}`:        `ops.yaml:2:17: projects.game.roles: "" cannot hold a role: use a group's name, or user:NAME, group:NAME, oidc:NAME`,
		"{operator@chess: [a]}":   `ops.yaml:2:17: projects.game.roles: the scope "chess@project" is no pattern: use *, a project such as color-game, or project/service such as color-game/user-*`,
		`{operator: [sre, "user:ann", "oidc:cat@example.com"], viewer: ["group:sre"]}`: "",
	} {
		f, err := config.Parse("ops.yaml", []byte("projects:\n  game: {roles: "+roles+"}\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		var sec sections
		_, err = config.Schema{Sections: sec.list()}.Load(config.Inputs{File: f})
		if got := fmt.Sprint(err); want != "" && got != want {
			t.Errorf("%s:\n%s, want\n%s", roles, got, want)
		}
		if want != "" {
			continue
		}
		var said []string
		for h, grants := range sec.Projects.grants() {
			slices.SortFunc(grants, func(a, b auth.Grant) int { return strings.Compare(string(a.Role), string(b.Role)) })
			said = append(said, fmt.Sprintf("%s %v", h, grants))
		}
		slices.Sort(said)
		if got := strings.Join(said, "; "); err != nil || got != "group:sre [operator on game viewer on game]; oidc:cat@example.com [operator on game]; user:ann [operator on game]" {
			t.Errorf("%v; %s", err, got)
		}
	}
}
