// Heaptypes measures what naming the types of a heap costs: the process that is
// asked, and the centre that joins or does it alone from the executable. A
// program with thousands of allocation sites over hundreds of types is written,
// built and run with every allocation sampled. Next to it is what writing the
// heap profile itself costs, which a capture pays in any case.
//
//	go run ./bench/heaptypes [-short]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	guest "github.com/opscenter/opscenter/agent/heaptypes"
	"github.com/opscenter/opscenter/bench/internal/measure"
	"github.com/opscenter/opscenter/internal/heaptypes"
	"github.com/opscenter/opscenter/internal/profile"
)

func main() {
	short := flag.Bool("short", false, "a tenth of the sites, one round")
	flag.Parse()
	if err := run(*short); err != nil {
		fmt.Fprintln(os.Stderr, "heaptypes:", err)
		os.Exit(1)
	}
}

// times are the CPU seconds of one process's steps, as the program prints them.
type times struct {
	Sites    int
	Profile  float64 // writing the heap profile
	Look     float64 // looking at the program, once per process
	Cold     float64 // the first table
	Warm     float64 // the next
	AllocMB  float64 // by the first table
	WriteMS  float64
	FileKB   float64
	Resolved int
}

func run(short bool) error {
	functions, rounds := 3500, 15
	if short {
		functions, rounds = 350, 1
	}
	fmt.Println(measure.Machine())
	dir, err := os.MkdirTemp("", "heaptypes")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program, err := build(dir, functions)
	if err != nil {
		return err
	}
	col := map[string][]float64{}
	var last times
	for range rounds {
		if last, err = child(program, dir); err != nil {
			return err
		}
		for name, v := range map[string]float64{"profile": last.Profile, "look": last.Look, "cold": last.Cold, "warm": last.Warm, "write": last.WriteMS / 1000} {
			col[name] = append(col[name], v)
		}
		if err := centre(program, dir, col); err != nil {
			return err
		}
	}
	fmt.Printf("\n%d records, %d of them typed, %.0f KB of heap-types.json, median of %d\n\n", last.Sites, last.Resolved, last.FileKB, rounds)
	var t measure.Table
	t.Row("what", "where", "CPU ms", "allocated MB")
	row := func(what, where, name, alloc string) {
		t.Row(what, where, fmt.Sprintf("%.2f", 1000*measure.Median(col[name])), alloc)
	}
	row("writing heap.pprof, for comparison", "process", "profile", "")
	row("looking at the program and the self-test, once", "process", "look", "")
	row("**naming all types, cold**", "process", "cold", fmt.Sprintf("%.1f", last.AllocMB))
	row("**naming all types, warm**", "process", "warm", "")
	row("writing heap-types.json", "process", "write", "")
	row("reading heap-types.json", "centre", "read", "")
	row("joining it with the profile", "centre", "join", "")
	row("opening the executable instead", "centre", "open", "")
	row("naming all types from it", "centre", "resolve", "")
	t.Print(os.Stdout)
	return nil
}

// child runs the program once.
func child(program, dir string) (t times, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, dir)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(out, &t)
}

// centre does what the centre does with what the program wrote.
func centre(program, dir string, col map[string][]float64) error {
	timed := func(name string, f func() error) error {
		runtime.GC()
		before := measure.CPU()
		err := f()
		col[name] = append(col[name], (measure.CPU() - before).Seconds())
		return err
	}
	file, err := os.ReadFile(filepath.Join(dir, guest.FileName))
	if err != nil {
		return err
	}
	heap, err := os.ReadFile(filepath.Join(dir, "heap.pprof"))
	if err != nil {
		return err
	}
	p, err := profile.Read(bytes.NewReader(heap), profile.Limits{})
	if err != nil {
		return err
	}
	var table *heaptypes.Table
	if err := timed("read", func() error {
		table, err = heaptypes.Read(bytes.NewReader(file), heaptypes.Limits{})
		return err
	}); err != nil {
		return err
	}
	if err := timed("join", func() error {
		h, err := table.Join(p)
		if err == nil && h.TypedShare() < 0.96 {
			err = fmt.Errorf("only %.1f %% of the live bytes have a type", 100*h.TypedShare())
		}
		return err
	}); err != nil {
		return err
	}
	f, err := os.Open(program)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var b *heaptypes.Binary
	if err := timed("open", func() error {
		b, err = heaptypes.OpenELF(f)
		return err
	}); err != nil {
		return err
	}
	return timed("resolve", func() error {
		_, err := b.Resolve(p)
		return err
	})
}

// build writes and builds the program, in a folder of this module that exists in
// an overlay alone.
func build(dir string, functions int) (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	overlay := map[string]map[string]string{"Replace": {}}
	for name, text := range map[string]string{"main.go": mainFile, "sites.go": sitesFile(functions)} {
		at := filepath.Join(dir, name)
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay["Replace"][filepath.Join(strings.TrimSpace(string(root)), "bench/heaptypes/program", name)] = at
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), b, 0o600); err != nil {
		return "", err
	}
	program := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-ldflags=-s -w", "-o", program, "github.com/opscenter/opscenter/bench/heaptypes/program")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
}

// sitesFile has that many allocating functions over a tenth as many types; three
// of ten allocate at two places or more.
func sitesFile(functions int) string {
	var b strings.Builder
	b.WriteString("package main\n\n")
	for i := range functions / 10 {
		fmt.Fprintf(&b, "type t%d struct { next *t%d; name string; list []*t%d; room [%d]int64 }\n", i, (i+7)%(functions/10), i/2, i%23)
	}
	ways := []string{"return new(t%[1]d)", "return make([]t%[1]d, n)", "return make([]*t%[1]d, n)", "return append([]t%[1]d(nil), t%[1]d{})", "return make(map[int]*t%[1]d, n)", "return make(chan t%[1]d, 1)", "return &t%[1]d{name: \"x\"}", "return any(t%[1]d{})", "s := new(t%[1]d); return func() any { return s }", "m := map[string]t%[1]d{}; m[\"k\"] = t%[1]d{}; return m"}
	b.WriteString("var fs = []func(int) any{\n")
	for i := range functions {
		fmt.Fprintf(&b, "\tfunc(n int) any { "+ways[i%len(ways)]+" },\n", i/len(ways))
	}
	b.WriteString("}\n")
	return b.String()
}

const mainFile = `// Command program allocates at thousands of places and says what naming them took.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"

	"github.com/opscenter/opscenter/agent/heaptypes"
)

func init() { runtime.MemProfileRate = 1 }

var keep []any

func cpu() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	for _, f := range fs {
		for range 3 {
			keep = append(keep, f(3))
		}
	}
	runtime.GC()
	f, err := os.Create(filepath.Join(os.Args[1], "heap.pprof"))
	must(err)
	at := cpu()
	must(pprof.Lookup("heap").WriteTo(f, 0))
	wrote := cpu() - at
	must(f.Close())
	runtime.MemProfileRate = 0 // what follows is not to be seen
	at = cpu()
	p, err := heaptypes.NewProcess()
	must(err)
	look := cpu() - at
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	at = cpu()
	t, err := p.Collect(context.Background())
	must(err)
	cold := cpu() - at
	runtime.ReadMemStats(&after)
	at = cpu()
	_, err = p.Collect(context.Background())
	must(err)
	warm := cpu() - at
	at = cpu()
	b, err := json.Marshal(t)
	must(err)
	write := cpu() - at
	must(os.WriteFile(filepath.Join(os.Args[1], heaptypes.FileName), b, 0o600))
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"Sites": t.Records, "Resolved": len(t.Sites), "Profile": wrote, "Look": look, "Cold": cold, "Warm": warm,
		"AllocMB": float64(after.TotalAlloc-before.TotalAlloc) / 1e6, "WriteMS": 1000 * write, "FileKB": float64(len(b)) / 1e3,
	}))
	runtime.KeepAlive(keep)
}
`
