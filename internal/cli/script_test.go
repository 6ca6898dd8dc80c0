package cli

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write what ops prints into testdata")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run is one run of ops against a centre.
type run struct {
	env    map[string]string
	stdin  io.Reader
	stderr io.Writer // nil = collected
	cfg    Config
}

func (r run) ops(t *testing.T, c *centre, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cfg := r.cfg
	cfg.Stdin, cfg.Stdout, cfg.Stderr = r.stdin, &out, r.stderr
	if cfg.Stdin == nil {
		cfg.Stdin = strings.NewReader("")
	}
	if cfg.Stderr == nil {
		cfg.Stderr = &errs
	}
	env := map[string]string{"OPS_SERVER": c.url}
	for k, v := range r.env {
		env[k] = v
	}
	cfg.Getenv = func(k string) string { return env[k] }
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return testNow }
	}
	cfg.Version = "v1.2.3"
	cfg.PollEvery = time.Millisecond
	if cfg.OpenBrowser == nil {
		cfg.OpenBrowser = func(context.Context, string) error { return fmt.Errorf("no display") }
	}
	if cfg.Serve == nil {
		cfg.Serve = func(_ context.Context, o ServeOptions) error {
			var targets []string
			for _, t := range o.Targets {
				targets = append(targets, fmt.Sprint(t.Project, " ", t.Service, " ", t.Source, " ", t.URL, " ", t.Labels))
			}
			fmt.Fprintf(o.Out, "listen=%s data=%s base=%q tls=%q,%q token=%q targets=%v static=%q file-sd=%q retention=%v bytes=%d reserve=%d hosts=%q viewer=%q version=%s\n",
				o.Listen, o.DataDir, o.BasePath, o.TLSCert, o.TLSKey, o.TokenFile, targets, o.StaticFiles, o.FileSD, o.Retention, o.RetentionBytes, o.DiskReserveBytes, o.AllowHosts, o.TraceViewer, o.Version)
			return nil
		}
	}
	code = Main(t.Context(), args, cfg)
	return out.String(), errs.String(), code
}

// TestScripts runs the sessions in testdata, each against a centre of its own:
//
//	$ [NAME=value…] ops ARGS…
//	> what it prints on standard output
//	2> what it prints on standard error
//	exit N, unless it is 0
//
// `-update` writes them anew.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("%s differs (-want +got), -update accepts it:\n%s", file, diff)
			}
		})
	}
}

func runScript(t *testing.T, script string) string {
	wantToken := ""
	if strings.Contains(script, "# with a token") {
		wantToken = token
	}
	c := newCentre(t, wantToken)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"token": token + "\n", "empty": "\n", "wrong": "not-the-token-of-this-centre", "bundle.zip": string(bundleBytes), "not-a.zip": "hello",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got strings.Builder
	for line := range strings.Lines(script) {
		command, isCommand := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "$ ")
		if !isCommand {
			if line == "\n" || strings.HasPrefix(line, "#") {
				got.WriteString(line)
			}
			continue
		}
		got.WriteString(line)
		fields := words(t, strings.ReplaceAll(command, "DIR", dir))
		r := run{env: map[string]string{}, stdin: bytes.NewReader(bundleBytes)}
		for len(fields) > 0 && fields[0] != "ops" {
			k, v, ok := strings.Cut(fields[0], "=")
			if !ok {
				t.Fatalf("%q is no command of ops", command)
			}
			r.env[k] = v
			fields = fields[1:]
		}
		stdout, stderr, code := r.ops(t, c, fields[1:]...)
		tidy := strings.NewReplacer(c.url, "http://centre/ops", strings.TrimSuffix(c.url, "/ops"), "http://centre", dir, "DIR")
		for l := range strings.Lines(tidy.Replace(stdout)) {
			fmt.Fprintf(&got, "> %s\n", strings.TrimRight(l, "\n"))
		}
		for l := range strings.Lines(tidy.Replace(stderr)) {
			fmt.Fprintf(&got, "2> %s\n", strings.TrimRight(l, "\n"))
		}
		if code != 0 {
			fmt.Fprintf(&got, "exit %d\n", code)
		}
	}
	return got.String()
}

// words splits a command line; double quotes hold a word together.
func words(t *testing.T, s string) []string {
	var out []string
	var word strings.Builder
	quoted, inWord := false, false
	for _, r := range s {
		switch {
		case r == '"':
			quoted, inWord = !quoted, true
		case r == ' ' && !quoted:
			if inWord {
				out = append(out, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quoted {
		t.Fatalf("open quote in %q", s)
	}
	if inWord {
		out = append(out, word.String())
	}
	return out
}
