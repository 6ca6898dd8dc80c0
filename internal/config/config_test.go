package config_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/ops"
)

var update = flag.Bool("update", false, "accept what the tests see")

// source and store are sections as packages write them.
type source struct {
	Endpoints []string          `yaml:"endpoints"`
	Interval  time.Duration     `yaml:"interval"`
	Keep      config.Duration   `yaml:"keep"`
	Max       int               `yaml:"max"`
	Share     float64           `yaml:"share"`
	On        bool              `yaml:"on"`
	Password  string            `yaml:"password"`
	Pin       string            `yaml:"pin" secret:"true"`
	CAFile    string            `yaml:"ca-file"`
	Dir       string            `yaml:"dir"`
	Labels    map[string]string `yaml:"labels"`
}

func (s *source) Validate() error {
	if len(s.Endpoints) == 0 {
		return errors.New("endpoints: say at least one")
	}
	for _, e := range s.Endpoints {
		if strings.Contains(e, "bad") {
			return fmt.Errorf("endpoints: %q is no address", e)
		}
	}
	if s.On && s.Max == 0 {
		return errors.New("an active source needs a maximum")
	}
	return nil
}

func (s *source) ResolvePaths(abs func(string) string) { s.Dir = abs(s.Dir) }

type sources struct {
	Etcd  []source          `yaml:"etcd"`
	Named map[string]source `yaml:"named"`
}

type said struct {
	listen, health string
	hosts          []string
	retention      config.Duration
	sources        sources
}

func (s *said) schema() config.Schema {
	one := func(to *string) func([]string) error {
		return func(v []string) error { *to = v[0]; return nil }
	}
	return config.Schema{
		Settings: []config.Setting{
			{Key: "listen", About: "host:port to serve on", Default: "127.0.0.1:8080", Restart: true, Set: one(&s.listen)},
			{Key: "health", About: "file with thresholds", Path: true, Set: one(&s.health)},
			{Key: "allow-host", About: "name by which browsers may come", List: true, Set: func(v []string) error { s.hosts = v; return nil }},
			{Key: "retention", About: "how long captures are kept", Default: "30d", Set: func(v []string) error { return s.retention.Set(v[0]) }},
		},
		Sections: []config.Section{{Key: "sources", Into: &s.sources, About: "where instances are", Example: "sources:\n  etcd:\n    - endpoints: [10.0.0.1:2379]"}},
	}
}

func env(name string) string {
	return map[string]string{"ETCD_PASSWORD": "correct horse", "OPS_RETENTION": ""}[name]
}

// TestWrongFiles goes through testdata/wrong: each file begins with what is wrong
// in it, said as the user reads it.
func TestWrongFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/wrong/*.yaml")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := "nothing is wrong"
			text, _, _ := strings.Cut(string(b), "\n# ----\n")
			f, err := config.Parse("ops.yaml", []byte(text+"\n"), env)
			if err == nil {
				var s said
				_, err = s.schema().Load(config.Inputs{File: f})
			}
			if err != nil {
				if ops.KindOf(err) != ops.Invalid {
					t.Errorf("its kind is %s", ops.KindOf(err))
				}
				got = err.Error()
			}
			if strings.Contains(got, "correct horse") {
				t.Errorf("a secret is in the message")
			}
			var want strings.Builder
			for line := range strings.Lines(got) {
				want.WriteString("# " + strings.TrimRight(line, "\n") + "\n")
			}
			full := text + "\n# ----\n" + want.String()
			if *update {
				if err := os.WriteFile(path, []byte(full), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if d := cmp.Diff(string(b), full); d != "" {
				t.Errorf("-want +got, -update accepts it:\n%s", d)
			}
		})
	}
}

func TestValuesAndTheirOrigins(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pin"), []byte("4711-0815\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "ops.yaml")
	if err := os.WriteFile(name, []byte(`
listen: 10.0.0.1:8443
health: health.yaml
allow-host: [a.example.com, b.example.com]
retention:
sources:
  etcd:
    - endpoints: ["http://ops:hidden@10.0.0.1:2379"]
      interval: 5s
      keep: 7d
      max: 3
      share: 0.5
      on: true
      password: ${env:ETCD_PASSWORD}
      pin: ${file:pin}
      ca-file: ca.pem
      labels: {zone: a}
  named:
    one: {endpoints: [x], password: in the clear, ca-file: /etc/ca.pem, dir: d}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := config.Read(name, env)
	if err != nil {
		t.Fatal(err)
	}
	var s said
	got, err := s.schema().Load(config.Inputs{File: f})
	if err != nil {
		t.Fatal(err)
	}
	etcd := s.sources.Etcd[0]
	if s.listen != "10.0.0.1:8443" || s.health != filepath.Join(dir, "health.yaml") || len(s.hosts) != 2 || s.retention != 0 {
		t.Errorf("%+v", s)
	}
	if etcd.Password != "correct horse" || etcd.Pin != "4711-0815" || etcd.Interval != 5*time.Second || etcd.Keep != config.Duration(7*24*time.Hour) ||
		etcd.CAFile != filepath.Join(dir, "ca.pem") || etcd.Max != 3 || etcd.Share != 0.5 || !etcd.On || etcd.Labels["zone"] != "a" {
		t.Errorf("%+v", etcd)
	}
	if one := s.sources.Named["one"]; one.CAFile != "/etc/ca.pem" || one.Dir != filepath.Join(dir, "d") || one.Password != "in the clear" {
		t.Errorf("%+v", one)
	}
	var text strings.Builder
	for _, v := range got.Values {
		fmt.Fprintf(&text, "%s = %s (%s)\n", v.Key, v.Text, strings.ReplaceAll(v.Where, dir+"/", ""))
	}
	want := `listen = 10.0.0.1:8443 (ops.yaml:2:9)
health = DIR/health.yaml (ops.yaml:3:9)
allow-host = a.example.com, b.example.com (ops.yaml:4:13)
retention = 30d ()
sources.etcd[0].endpoints[0] = http://ops:xxxxx@10.0.0.1:2379 (ops.yaml:8:19)
sources.etcd[0].interval = 5s (ops.yaml:9:17)
sources.etcd[0].keep = 7d (ops.yaml:10:13)
sources.etcd[0].max = 3 (ops.yaml:11:12)
sources.etcd[0].share = 0.5 (ops.yaml:12:14)
sources.etcd[0].on = true (ops.yaml:13:11)
sources.etcd[0].password = ${env:ETCD_PASSWORD} (ops.yaml:14:17)
sources.etcd[0].pin = ${file:pin} (ops.yaml:15:12)
sources.etcd[0].ca-file = ca.pem (ops.yaml:16:16)
sources.etcd[0].labels.zone = a (ops.yaml:17:22)
sources.named.one.endpoints[0] = x (ops.yaml:19:23)
sources.named.one.password = •••••• (ops.yaml:19:37)
sources.named.one.ca-file = /etc/ca.pem (ops.yaml:19:60)
sources.named.one.dir = d (ops.yaml:19:78)
`
	if d := cmp.Diff(want, strings.ReplaceAll(text.String(), dir, "DIR")); d != "" {
		t.Error(d)
	}
	if len(f.Reads) != 1 || f.Reads[0] != filepath.Join(dir, "pin") {
		t.Errorf("reads %v", f.Reads)
	}
}

// TestPrecedence: for every setting, every subset of the places that can speak.
func TestPrecedence(t *testing.T) {
	values := map[string][3]string{ // of the file, the environment, the flag
		"listen": {"f:1", "e:1", "g:1"}, "health": {"/f", "/e", "/g"}, "allow-host": {"f", "e", "g"}, "retention": {"1d", "2d", "3d"},
	}
	for _, set := range new(said).schema().Settings {
		for said3 := range 8 {
			v := values[set.Key]
			want, in := config.FromDefault, config.Inputs{}
			text := set.Default
			if said3&1 != 0 {
				f, err := config.Parse("ops.yaml", []byte(set.Key+": "+v[0]), nil)
				if err != nil {
					t.Fatal(err)
				}
				in.File, want, text = f, config.FromFile, v[0]
			}
			if said3&2 != 0 {
				in.Getenv, want, text = func(name string) string {
					if name == set.Env() {
						return v[1]
					}
					return ""
				}, config.FromEnv, v[1]
			}
			if said3&4 != 0 {
				in.Flags, want, text = map[string][]string{set.Key: {v[2]}}, config.FromFlag, v[2]
			}
			got, err := new(said).schema().Load(in)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range got.Values {
				if g.Key == set.Key && (g.Origin != want || g.Text != text) {
					t.Errorf("%s with %03b: %s from %s, want %s from %s", set.Key, said3, g.Text, g.Origin, text, want)
				}
			}
		}
	}
}

func TestWrongValuesOfTheEnvironmentAndOfFlags(t *testing.T) {
	for _, c := range []struct {
		in   config.Inputs
		want string
	}{
		{config.Inputs{Getenv: func(n string) string { return map[string]string{"OPS_RETENTION": "long"}[n] }}, "OPS_RETENTION: use a number and a unit, such as 30s, 5m, 12h or 7d"},
		{config.Inputs{Flags: map[string][]string{"retention": {"long"}}}, "--retention: use a number and a unit, such as 30s, 5m, 12h or 7d"},
	} {
		_, err := new(said).schema().Load(c.in)
		if err == nil || err.Error() != c.want || ops.KindOf(err) != ops.Invalid {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestChanges(t *testing.T) {
	load := func(text string) config.Effective {
		f, err := config.Parse("ops.yaml", []byte(text), env)
		if err != nil {
			t.Fatal(err)
		}
		e, err := new(said).schema().Load(config.Inputs{File: f})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	base := "listen: a:1\nretention: 1d\nsources: {etcd: [{endpoints: [x], password: one}]}\n"
	for _, c := range []struct{ after, now, restart string }{
		{base, "[]", "[]"},
		{"# moved\n" + base, "[]", "[]"},
		{"retention: 1d\nsources: {etcd: [{endpoints: [x], password: one}]}\n", "[]", "[listen]"},
		{"listen: b:1\nretention: 2d\n", "[retention sources]", "[listen]"},
		{strings.Replace(base, "one", "two", 1), "[sources]", "[]"},
	} {
		now, restart := config.Changes(load(base), load(c.after))
		if got := fmt.Sprint(now, restart); got != c.now+" "+c.restart {
			t.Errorf("%q: %s, want %s %s", c.after, got, c.now, c.restart)
		}
	}
}

func TestAMistakeChangesNothing(t *testing.T) {
	s := said{sources: sources{Etcd: []source{{Max: 7}}}}
	f, err := config.Parse("ops.yaml", []byte("sources: {etcd: [{endpoints: [bad]}]}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.schema().Load(config.Inputs{File: f}); err == nil || len(s.sources.Etcd) != 1 || s.sources.Etcd[0].Max != 7 {
		t.Errorf("%v, %+v", err, s.sources)
	}
}

func TestFind(t *testing.T) {
	t.Chdir(t.TempDir())
	if got, err := config.Find(""); got != "" && got != "/etc/ops/ops.yaml" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.WriteFile("ops.yaml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := config.Find(""); got != "ops.yaml" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, err := config.Find("/nowhere/ops.yaml")
	if want := "--config: stat /nowhere/ops.yaml: no such file or directory: `ops config init` writes one to start from"; err == nil || err.Error() != want {
		t.Error(err)
	}
}

func TestTheExampleIsRight(t *testing.T) {
	text := new(said).schema().Example()
	uncommented := ""
	for line := range strings.Lines(text) {
		if key, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(key, " ") || strings.HasPrefix(line, "#  ") {
			uncommented += strings.TrimPrefix(line, "#")
		}
	}
	for _, one := range []string{text, uncommented} {
		f, err := config.Parse("ops.yaml", []byte(one), env)
		if err != nil {
			t.Fatalf("%v in\n%s", err, one)
		}
		var s said
		if _, err := s.schema().Load(config.Inputs{File: f}); err != nil {
			t.Errorf("%v in\n%s", err, one)
		}
		if one == uncommented && (len(s.sources.Etcd) != 1 || s.retention == 0) {
			t.Errorf("the example says %+v", s)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, text := range []string{"500MB", "10GiB", "1TiB", "3kB", "4KiB", "7B", "1234567B"} {
		var s config.Size
		if err := s.Set(text); err != nil || s.String() != text {
			t.Errorf("%s became %s, %v", text, s, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/wrong/*.yaml")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("sources: {etcd: [{endpoints: [x]}]}")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "${file") {
			return // it is about the reader, not about this machine's files
		}
		file, err := config.Parse("ops.yaml", []byte(text), env)
		if err == nil {
			_, err = new(said).schema().Load(config.Inputs{File: file})
		}
		if err != nil && (ops.KindOf(err) != ops.Invalid || !strings.HasPrefix(err.Error(), "ops.yaml:")) {
			t.Errorf("%v", err)
		}
	})
}
