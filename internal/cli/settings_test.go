package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/config"
)

// said is what a key can be told in three different ways.
func said(key string) (file, env, flag string) {
	switch key {
	case "listen":
		return "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"
	case "retention", "retention-bytes", "disk-reserve":
		if key == "retention" {
			return "1d", "2d", "3d"
		}
		return "1GiB", "2GiB", "3GiB"
	case "heartbeat":
		return "1s", "2s", "3s"
	case "log-level":
		return "debug", "warn", "error"
	case "log-format":
		return "json", "text", "json"
	case "undeclared-projects":
		return "refuse", "accept", "refuse"
	case "base-path":
		return "/file", "/env", "/flag"
	case "target":
		return "a/b=http://file:1", "a/b=http://env:1", "a/b=http://flag:1"
	case "allow-host":
		return "file.example", "env.example", "flag.example"
	}
	return "/file", "/env", "/flag"
}

// TestEveryKeyHasItsPrecedence: each setting of serve, said in every combination
// of places.
func TestEveryKeyHasItsPrecedence(t *testing.T) {
	all := settings(new(program).newServeSettings().flags())
	if len(all) < 20 {
		t.Fatalf("%d settings", len(all))
	}
	for _, set := range all {
		for places := range 8 {
			inFile, inEnv, inFlag := said(set.Key)
			want, origin := set.Default, config.FromDefault
			name := filepath.Join(t.TempDir(), "ops.yaml")
			text := ""
			if places&1 != 0 {
				text, want, origin = set.Key+": "+inFile+"\n", inFile, config.FromFile
			}
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			p := newProgram(Config{Getenv: func(n string) string {
				if n == set.Env() && places&2 != 0 {
					return inEnv
				}
				return ""
			}})
			if places&2 != 0 {
				want, origin = inEnv, config.FromEnv
			}
			given := map[string][]string{}
			if places&4 != 0 {
				given[set.Key] = []string{inFlag}
				want, origin = inFlag, config.FromFlag
			}
			// What else has to be said for the key to make sense is not looked at here.
			flags := p.newServeSettings().flags()
			f, err := config.Read(name, p.Getenv)
			if err != nil {
				t.Fatal(err)
			}
			e, err := config.Schema{Settings: settings(flags)}.Load(config.Inputs{File: f, Flags: given, Getenv: p.Getenv})
			if err != nil {
				t.Errorf("%s, %03b: %v", set.Key, places, err)
				continue
			}
			for _, v := range e.Values {
				if v.Key == set.Key && (v.Text != want || v.Origin != origin) {
					t.Errorf("%s, %03b: %q from %s, want %q from %s", set.Key, places, v.Text, v.Origin, want, origin)
				}
			}
		}
	}
}

// TestKeysAreDocumented keeps the table of docs/operations.md true.
func TestKeysAreDocumented(t *testing.T) {
	const name, begin, end = "../../docs/operations.md", "<!-- keys: written by `go test ./internal/cli -run TestKeys -update` -->\n", "<!-- /keys -->"
	var b strings.Builder
	b.WriteString("\n| key and flag | environment | default | a change | |\n|---|---|---|---|---|\n")
	chinese, err := os.ReadFile("../../docs/operations.zh-TW.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range settings(new(program).newServeSettings().flags()) {
		if row := fmt.Sprintf("| `%s` | `%s` | %s | ", set.Key, set.Env(), cmp.Or(set.Default, "–")); !strings.Contains(string(chinese), row) {
			t.Errorf("docs/operations.zh-TW.md has no row %s", row)
		}
		when := "at once"
		if set.Restart {
			when = "next start"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", set.Key, set.Env(), cmp.Or(set.Default, "–"), when, strings.ReplaceAll(set.About, "|", "\\|"))
	}
	b.WriteString("\n")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the marks of the table are gone")
	}
	if old == b.String() {
		return
	}
	if !*update {
		t.Fatalf("docs/operations.md is behind the flags: -update writes it\ngot\n%s\nwant\n%s", old, b.String())
	}
	if err := os.WriteFile(name, []byte(before+begin+b.String()+end+after), 0o644); err != nil { //nolint:gosec // a document
		t.Fatal(err)
	}
}

func TestConfigVerbs(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	good := write("good.yaml", "retention: 7d\nallow-host: [a.example.com]\n")
	bad := write("bad.yaml", "lissen: :1\nretention: long\n")
	odd := write("odd.yaml", "heartbeat: 1h\n")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"config check " + good, ExitOK, "DIR/good.yaml is right: 2 values said\n"},
		{"config check " + bad, ExitUsage, "ops: DIR/bad.yaml:1:1: unknown key \"lissen\": did you mean listen?\n"},
		{"config check " + odd, ExitUsage, "ops: DIR/odd.yaml:1:12: heartbeat 1h0m0s is out of bounds: use 1s to 5s\n"},
		{"config check " + dir + "/none.yaml", ExitNotFound, "ops: there is no DIR/none.yaml: name the file, or write one with `ops config init`\n"},
		{"config check --json " + good, ExitOK, "{\n  \"file\": \"DIR/good.yaml\",\n  \"ok\": true,\n  \"problems\": []\n}\n"},
	} {
		stdout, stderr, code := run{}.ops(t, &centre{}, strings.Fields(c.args)...)
		if got := strings.ReplaceAll(stdout+stderr, dir, "DIR"); code != c.code || got != c.says {
			t.Errorf("%s: %d\n%s\nwant %d\n%s", c.args, code, got, c.code, c.says)
		}
	}
	stdout, _, _ := run{}.ops(t, &centre{}, "config", "print", "--config", good, "--log-level", "debug")
	for _, line := range []string{"retention", "7d", "good.yaml:1:12", "log-level", "--log-level", "heartbeat"} {
		if !strings.Contains(stdout, line) {
			t.Errorf("print says nothing of %s:\n%s", line, stdout)
		}
	}
	fresh := filepath.Join(dir, "fresh.yaml")
	if _, stderr, code := (run{}).ops(t, &centre{}, "config", "init", fresh); code != ExitOK {
		t.Error(stderr)
	}
	if _, stderr, code := (run{}).ops(t, &centre{}, "config", "check", fresh); code != ExitOK {
		t.Errorf("what init writes is wrong: %s", stderr)
	}
	if _, _, code := (run{}).ops(t, &centre{}, "config", "init", fresh); code == ExitOK {
		t.Error("somebody's configuration was overwritten")
	}
}

func TestServeTakesTheFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ops.yaml")
	if err := os.WriteFile(name, []byte("listen: 127.0.0.1:7\nretention: 7d\ntls-cert: c.pem\ntls-key: k.pem\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got ServeOptions
	cfg := Config{Serve: func(_ context.Context, o ServeOptions) error { got = o; return nil }}
	if _, stderr, code := (run{cfg: cfg}).ops(t, &centre{}, "serve", "--config", name, "--retention", "3d"); code != ExitOK {
		t.Fatal(stderr)
	}
	if got.Listen != "127.0.0.1:7" || got.Retention.Hours() != 72 || got.TLSCert != filepath.Join(filepath.Dir(name), "c.pem") || got.Config.File != name {
		t.Errorf("%+v", got)
	}
}
