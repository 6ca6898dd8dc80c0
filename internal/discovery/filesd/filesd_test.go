package filesd

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replace writes a file as careful writers do: aside, then renamed.
func replace(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

type promGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func asJSON(t *testing.T, targets []ops.Target) string {
	t.Helper()
	groups := []promGroup{}
	for _, tg := range targets {
		labels := map[string]string{"project": string(tg.Project), "service": string(tg.Service)}
		for k, v := range tg.Labels {
			labels[k] = v
		}
		host := strings.TrimSuffix(strings.TrimPrefix(tg.URL, "http://"), "/debug/pprof")
		groups = append(groups, promGroup{[]string{host}, labels})
	}
	out, err := json.Marshal(groups)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestSource(t *testing.T) {
	for _, ext := range []string{"json", "yml"} { // JSON is YAML
		t.Run(ext, func(t *testing.T) {
			opstest.TestSource(t, func(t *testing.T, initial []ops.Target) opstest.SourceBackend {
				name := filepath.Join(t.TempDir(), "targets."+ext)
				set := func(t *testing.T, targets []ops.Target) { replace(t, name, asJSON(t, targets)) }
				set(t, initial)
				s, err := New(Config{Paths: []string{name}})
				if err != nil {
					t.Fatal(err)
				}
				return opstest.SourceBackend{Source: s, Set: set, Break: func(t *testing.T) { replace(t, name, `[{"targets": [`) }}
			})
		})
	}
}

// watched runs a source and returns what it says.
func watched(t *testing.T, cfg Config) (*Source, func(want string)) {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	lists := make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Run(ctx, func(l []ops.Target) {
			var urls []string
			for _, tg := range l {
				urls = append(urls, tg.URL)
			}
			lists <- strings.Join(urls, " ")
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s, func(want string) {
		t.Helper()
		last := "(nothing)"
		deadline := time.After(time.Minute)
		for last != want {
			select {
			case last = <-lists:
			case <-deadline:
				t.Fatalf("the list is %q, want %q", last, want)
			}
		}
	}
}

func one(host string) string {
	return fmt.Sprintf(`[{"targets": [%q], "labels": {"job": "s", "__scheme__": "grpc"}}]`, host)
}

func TestPatternsAndDeletedFiles(t *testing.T) {
	dir := t.TempDir()
	_, expect := watched(t, Config{Paths: []string{filepath.Join(dir, "*.json"), filepath.Join(dir, "extra.yml")}})
	expect("")
	replace(t, filepath.Join(dir, "a.json"), one("a:1"))
	expect("grpc://a:1")
	replace(t, filepath.Join(dir, "b.json"), one("b:1"))
	expect("grpc://a:1 grpc://b:1")
	replace(t, filepath.Join(dir, "extra.yml"), "- targets: [c:1]\n  labels: {service: s, __scheme__: grpcs}\n")
	expect("grpc://a:1 grpc://b:1 grpcs://c:1")
	if err := os.Remove(filepath.Join(dir, "a.json")); err != nil {
		t.Fatal(err)
	}
	expect("grpc://b:1 grpcs://c:1")
}

func TestAFileWrittenInPlace(t *testing.T) {
	name := filepath.Join(t.TempDir(), "targets.json")
	_, expect := watched(t, Config{Paths: []string{name}})
	expect("")
	if err := os.WriteFile(name, []byte(one("a:1")), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("grpc://a:1")
	if err := os.WriteFile(name, []byte(one("b:1")), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("grpc://b:1")
}

// A Kubernetes config map is a link to a link that is swapped.
func TestALinkThatIsSwapped(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, v), 0o700); err != nil {
			t.Fatal(err)
		}
		replace(t, filepath.Join(dir, v, "targets.json"), one(v+":1"))
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name+".new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("v1", "..data")
	link("..data/targets.json", "targets.json")
	_, expect := watched(t, Config{Paths: []string{filepath.Join(dir, "targets.json")}})
	expect("grpc://v1:1")
	link("v2", "..data")
	expect("grpc://v2:1")
}

func TestADirectoryThatComesLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	s, expect := watched(t, Config{Paths: []string{filepath.Join(dir, "targets.json")}, Refresh: 50 * time.Millisecond})
	expect("")
	if want := filepath.Join(dir, "targets.json") + ": the file does not exist (yet)"; s.Problem() != want {
		t.Errorf("problem %q, want %q", s.Problem(), want)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	replace(t, filepath.Join(dir, "targets.json"), one("a:1"))
	expect("grpc://a:1")
	if s.Problem() != "" {
		t.Errorf("problem %q, want none", s.Problem())
	}
}

func TestAMalformedFileIsExplained(t *testing.T) {
	name := filepath.Join(t.TempDir(), "targets.json")
	replace(t, name, one("a:1"))
	s, expect := watched(t, Config{Paths: []string{name}})
	expect("grpc://a:1")
	replace(t, name, "[\n  {\"targets\": [\"a:1\"]\n")
	want := name + ":3: not JSON: the file ends too early; what it said before still holds"
	for deadline := time.Now().Add(time.Minute); s.Problem() != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("problem %q\nwant    %q", s.Problem(), want)
		}
	}
	replace(t, name, one("b:1"))
	expect("grpc://b:1")
	if s.Problem() != "" {
		t.Errorf("problem %q after the repair", s.Problem())
	}
}

func TestWhatIsNotAFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "dir.json")
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	s, expect := watched(t, Config{Paths: []string{filepath.Join(dir, "*.json")}})
	expect("")
	if want := name + ": not a regular file; what it said before still holds"; s.Problem() != want {
		t.Errorf("problem %q, want %q", s.Problem(), want)
	}
}

func TestParse(t *testing.T) {
	cases := []struct {
		name, file, content string
		want                []ops.Target
	}{
		{"JSON as Prometheus writes it", "t.json", `[
  {"targets": ["10.0.0.1:6060", "10.0.0.2:6060"], "labels": {"job": "user-service", "zone": "z1"}},
  {"targets": ["[::1]:7070"], "labels": {"__scheme__": "grpc", "ops_project": "color-game", "project": "other", "ops_service": "game-service", "job": "x"}}
]`, []ops.Target{
			{Project: "default", Service: "user-service", URL: "http://10.0.0.1:6060/debug/pprof", Labels: map[string]string{"job": "user-service", "zone": "z1"}},
			{Project: "default", Service: "user-service", URL: "http://10.0.0.2:6060/debug/pprof", Labels: map[string]string{"job": "user-service", "zone": "z1"}},
			{Project: "color-game", Service: "game-service", URL: "grpc://[::1]:7070", Labels: map[string]string{"job": "x"}},
		}},
		{"YAML with anchors", "t.yml", `
# comment
- targets:
    - 'host-a:6060'
    - host-b
  labels: &l
    service: user-service
    __scheme__: https
    __pprof_path__: /admin/pprof
    __meta_foo: dropped
    version: 1.20
- targets: [host-c:1]
  labels: *l
`, []ops.Target{
			{Project: "default", Service: "user-service", URL: "https://host-a:6060/admin/pprof", Labels: map[string]string{"version": "1.20"}},
			{Project: "default", Service: "user-service", URL: "https://host-b/admin/pprof", Labels: map[string]string{"version": "1.20"}},
			{Project: "default", Service: "user-service", URL: "https://host-c:1/admin/pprof", Labels: map[string]string{"version": "1.20"}},
		}},
		{"a list of none", "t.json", `[]`, []ops.Target{}},
		{"an empty YAML file", "t.yml", ``, []ops.Target{}},
		{"a group without targets", "t.yml", "- labels: {job: s}\n", []ops.Target{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse(c.file, []byte(c.content))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseExplains(t *testing.T) {
	const labels = `"labels": {"job": "s"}`
	cases := []struct{ file, content, want string }{
		{"t.json", "", `t.json:1: not JSON: the file ends too early`},
		{"t.json", "[\n{\"targets\": [\"a:1\"],,}]", `t.json:2: not JSON: invalid character ',' looking for beginning of object key string`},
		{"t.json", "{\"targets\": []}", `t.json:1: a map where a list should be: write a list of {"targets": ["host:port"], "labels": {"service": "name"}}`},
		{"t.json", "[\n[]]", `t.json:2: a list where a map should be: write a list of {"targets": ["host:port"], "labels": {"service": "name"}}`},
		{"t.json", "[{\"targets\": [\n12]}]", `t.json:2: 12 where a string should be: write a list of {"targets": ["host:port"], "labels": {"service": "name"}}`},
		{"t.json", "[{\n\"labels\": {\"a\":\nnull}}]", `t.json:3: null where a string should be: write a list of {"targets": ["host:port"], "labels": {"service": "name"}}`},
		{"t.json", "[{\n\"target\": []}]", `t.json:2: unknown field "target": a group has only targets and labels`},
		{"t.json", "[{\"targets\": [],\n\"targets\": []}]", `t.json:2: field "targets" is there twice`},
		{"t.json", "[]\n[]", `t.json:2: there is something after the list: write a list of {"targets": ["host:port"], "labels": {"service": "name"}}`},
		{"t.json", "[{\"targets\": [\n\"a:1\"]}]", `t.json:2: target "a:1": no service: add a label service, ops_service or job`},
		{"t.json", "[{\"targets\": [\n\"http://a:1\"], " + labels + "}]", `t.json:2: target "http://a:1": write host:port; the scheme goes into the label __scheme__ and the path into __pprof_path__`},
		{"t.json", "[{\"targets\": [\":1\"], " + labels + "}]", `t.json:1: target ":1": write host:port; one of them is missing`},
		{"t.json", "[{\"targets\": [\"a:1\",\n\"a:1\"], " + labels + "}]", `t.json:2: target "a:1": line 1 lists it already: list it once`},
		{"t.json", `[{"targets": ["a:1"], "labels": {"job": "s", "__scheme__": "ftp"}}]`, `t.json:1: target "a:1": label __scheme__ is "ftp": use http, https, grpc or grpcs`},
		{"t.json", `[{"targets": ["a:1"], "labels": {"job": "s", "__pprof_path__": "debug"}}]`, `t.json:1: target "a:1": label __pprof_path__ is "debug": begin it with a slash`},
		{"t.json", `[{"targets": ["a"], "labels": {"job": "s", "__scheme__": "grpc"}}]`, `t.json:1: target "a": URL "grpc://a" has no port: write grpc://host:port`},
		{"t.json", `[{"targets": ["a:1"], "labels": {"job": "a b"}}]`, `t.json:1: target "a:1": service "a b" is not a valid name: use letters, digits, dot, underscore and hyphen`},
		{"t.yml", "- targets: [a:1]\n  labels:\n    job: s\n   zone: z\n", `t.yml:4: not YAML: value is not allowed in this context`},
		{"t.yml", "targets: [a:1]\n", `t.yml:1: a map where a list should be: write a list of {"targets": ["host:port"], "labels": {"service": "name"}}`},
		{"t.yml", "- targets:\n  - {a: 1}\n", `t.yml:2: a map where a string should be: write a list of {"targets": ["host:port"], "labels": {"service": "name"}}`},
		{"t.yml", "- targets: [a:1]\n- target: [a:1]\n", `t.yml:2: unknown field "target": a group has only targets and labels`},
		{"t.yml", "- targets:\n    - a:1\n  labels: *gone\n", `t.yml:3: alias *gone has no anchor before it`},
		{"t.yml", "- targets:\n    - a:1\n    - b:1\n", `t.yml:2: target "a:1": no service: add a label service, ops_service or job`},
		{"t.yml", "[]\n---\n[]\n", `t.yml:3: a second document: write one list`},
	}
	for _, c := range cases {
		got, err := Parse(c.file, []byte(c.content))
		if err == nil || err.Error() != c.want || ops.KindOf(err) != ops.Invalid {
			t.Errorf("%s\n%s\n got: %v %v\nwant: %s", c.file, c.content, got, err, c.want)
		}
	}
}

func TestTooManyTargets(t *testing.T) {
	var b strings.Builder
	b.WriteString("- targets: &t [")
	for i := range 1000 {
		fmt.Fprintf(&b, "h%d:1,", i)
	}
	b.WriteString("]\n  labels: {job: s}\n")
	for range 30 { // anchors multiply
		b.WriteString("- targets: *t\n")
	}
	want := "t.yml:22: more than 20000 targets: split the file"
	if _, err := Parse("t.yml", []byte(b.String())); err == nil || err.Error() != want {
		t.Errorf("%v\nwant: %s", err, want)
	}
}

func TestNewRefuses(t *testing.T) {
	for path, want := range map[string]string{
		"targets.txt":    `file-SD path "targets.txt": use a name that ends in .json, .yml or .yaml`,
		"*/targets.json": `file-SD path "*/targets.json": use a pattern in the last element only`,
		"[a.json":        `file-SD path "[a.json": the pattern is malformed: close its brackets`,
	} {
		if _, err := New(Config{Paths: []string{path}}); err == nil || err.Error() != want {
			t.Errorf("%v\nwant: %s", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`[{"targets": ["a:1"], "labels": {"job": "s"}}]`, "- targets: [a:1]\n  labels: &l {job: s}\n- targets: [b:1]\n  labels: *l\n",
		"[", "- - -", "&a *a", "? {}\n: []", "- <<: *a", "!!binary x", "- targets: |\n   a\n", "\x00", "{{{{{{",
	} {
		f.Add(true, []byte(s))
		f.Add(false, []byte(s))
	}
	f.Fuzz(func(t *testing.T, isJSON bool, data []byte) {
		name := "t.yml"
		if isJSON {
			name = "t.json"
		}
		targets, err := Parse(name, data)
		if err != nil {
			if ops.KindOf(err) != ops.Invalid || !strings.HasPrefix(err.Error(), name+":") {
				t.Errorf("%v: want an Invalid error that names the file", err)
			}
			return
		}
		for _, tg := range targets {
			if tg.Service == "" || tg.Project == "" || !strings.Contains(tg.URL, "://") {
				t.Errorf("not a whole target: %+v", tg)
			}
		}
	})
}
