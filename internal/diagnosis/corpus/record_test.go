package corpus

import (
	"archive/zip"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// What this test binary plays when it is run as a program under test.
const roleVar = "CORPUS_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case "":
		os.Exit(m.Run())
	case "ops": // finds one thing in whatever it is asked to diagnose
		fmt.Printf(`{"schema":"opscenter.diagnosis/v1","findings":[{"id":"a","rule":"deadlock","severity":"critical","score":90,
			"where":[{"function":"main.f","file":"main.go","line":3}],"title":%q}]}`, strings.Join(os.Args[1:], " "))
	case "broken ops":
		fmt.Fprintln(os.Stderr, "ops: it is not a capture")
		os.Exit(1)
	case "program":
		panic(http.ListenAndServe(os.Getenv("PPROF_ADDR"), http.NotFoundHandler()))
	case "mute program":
		time.Sleep(time.Minute)
	case "brief program":
		fmt.Println("no such table")
		os.Exit(3)
	}
}

// bench is one whose programs and ops are this test binary.
func bench(t *testing.T) *Bench {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &Bench{Ops: exe, Root: ".", Window: time.Second, dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(b.dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, filepath.Join(b.dir, "bin", "p")); err != nil {
		t.Fatal(err)
	}
	return b
}

func stuck(role string) Program {
	return Program{Name: "p", Label: Label{
		Findings:      []Expected{{Rule: "deadlock", Function: "main.f", File: "main.go", Line: 3}},
		SettleSeconds: 0.01, Env: []string{roleVar + "=" + role},
	}}
}

func TestLiveDiagnosesFromOutside(t *testing.T) {
	b := bench(t)
	t.Setenv(roleVar, "ops") // the program's own label wins
	results := b.Live(t.Context(), stuck("program"), []Way{Agentless}, "", true)
	if len(results) != 1 || !results[0].right() || results[0].Error != "" {
		t.Fatalf("%+v", results)
	}
	if said := results[0].All[0].Title; !strings.HasPrefix(said, "diagnose --json http://127.0.0.1:") || !strings.HasSuffix(said, "/debug/pprof -d 1s") {
		t.Errorf("ops was called with %q", said)
	}
}

func TestLiveSaysWhyThereIsNoVerdict(t *testing.T) {
	t.Setenv(roleVar, "broken ops")
	for role, want := range map[string]string{
		"brief program": "the program ended at once, and said:\nno such table\n",
		"program":       "exit status 1\nops: it is not a capture",
	} {
		results := bench(t).Live(t.Context(), stuck(role), []Way{Agentless, Agentless}, "", true)
		if len(results) != 2 {
			t.Fatalf("%s: %+v", role, results)
		}
		for _, r := range results {
			if !strings.HasSuffix(r.Error, want) {
				t.Errorf("%s: got %q, want %q", role, r.Error, want)
			}
		}
	}
}

func TestLiveEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	results := bench(t).Live(ctx, stuck("mute program"), []Way{Agentless}, "", true)
	if got := results[0].Error; got != "context deadline exceeded" {
		t.Errorf("got %q", got)
	}
}

func TestReplay(t *testing.T) {
	b := bench(t)
	t.Setenv(roleVar, "ops")
	keep := t.TempDir()
	write(t, filepath.Join(Kept(keep, "p", Agent), "manifest.json"), "{}")
	results := Replay(t.Context(), b.Ops, keep, stuck(""), []Way{Agent, Agentless})
	if !results[0].right() || results[0].All[0].Title != "diagnose --json "+Kept(keep, "p", Agent) {
		t.Errorf("%+v", results[0])
	}
	if results[1].Skipped != "no capture is kept" {
		t.Errorf("%+v", results[1])
	}
}

func TestTargetsFollowTheProgram(t *testing.T) {
	b := bench(t)
	b.targets = map[string]string{}
	for _, c := range []struct{ url, want string }{
		{"http://127.0.0.1:99/debug/pprof", `[{"labels":{"project":"corpus-agentless","service":"p"},"targets":["127.0.0.1:99"]}]`},
		{"", `[]`},
	} {
		if err := b.announce("p", c.url); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(b.targetsFile()); err != nil || string(got) != c.want {
			t.Errorf("got %s, %v, want %s", got, err, c.want)
		}
	}
}

func TestUnpackKeepsToItsFolder(t *testing.T) {
	dir := t.TempDir()
	bundle := func(names ...string) string {
		file := filepath.Join(dir, "bundle.zip")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z := zip.NewWriter(f)
		for _, name := range names {
			if _, err := z.Create(name); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return file
	}
	to := filepath.Join(dir, "out")
	if err := unpack(bundle("manifest.json", "id/", "id/cpu.pprof"), to); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(to, "id", "cpu.pprof")); err != nil {
		t.Error(err)
	}
	if err := unpack(bundle("../evil"), to); err == nil || err.Error() != `the bundle has a file "../evil"` {
		t.Errorf("%v", err)
	}
}

// A quota needs a writable cgroup; where there is none, that is said.
func TestLimit(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("cgroups are Linux's")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := start([]string{roleVar + "=mute program"}, exe)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	undo, err := p.limit(0.5)
	if err != nil {
		if err.Error() != "no cgroup can be made here" {
			t.Error(err)
		}
		return
	}
	p.end()
	undo()
	for _, dir := range []string{"/sys/fs/cgroup/cpu", "/sys/fs/cgroup"} {
		if left, _ := filepath.Glob(filepath.Join(dir, fmt.Sprintf("corpus-%d", p.cmd.Process.Pid))); len(left) > 0 {
			t.Errorf("%v is left behind", left)
		}
	}
}
