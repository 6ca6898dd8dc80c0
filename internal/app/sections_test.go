package app

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

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
	if len(names) != 7 || names[0] != "static" || names[6] != "static of color-game" {
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
