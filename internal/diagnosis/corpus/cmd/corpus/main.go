// Corpus runs the programs of the diagnosis' corpus, captures them, has ops
// diagnose them, and compares that with their labels. See docs/corpus.md.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus"
)

const usage = `usage: corpus run|record|replay|list [flags]

  run     run the programs, capture and diagnose them
  record  run the programs and only keep their captures in -keep
  replay  diagnose the captures that are kept in -keep
  list    say what is expected of each program
`

type options struct {
	verb, dir, keep, ops, root, out string
	match                           *regexp.Regexp
	ways                            []corpus.Way
	window                          time.Duration
	jobs                            int
	noise, quick, foreign           bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string) (code int, err error) {
	if len(args) == 1 && args[0] == "noise" {
		noise(ctx)
		return 0, nil
	}
	o, err := parse(args)
	if err != nil {
		return 0, err
	}
	programs, err := corpus.Load(o.dir, o.match)
	if err != nil {
		return 0, err
	}
	if o.quick {
		programs = slices.DeleteFunc(programs, func(p corpus.Program) bool { return !p.Quick })
	}
	if o.verb == "list" {
		corpus.Describe(os.Stdout, programs)
		return 0, nil
	}
	if o.noise {
		end, err := startNoise()
		if err != nil {
			return 0, err
		}
		defer end()
	}
	results, err := o.results(ctx, programs)
	if err != nil {
		return 0, err
	}
	if o.keep != "" && o.verb != "replay" {
		if err := o.describe(); err != nil {
			return 0, err
		}
	}
	if o.verb == "record" {
		return recorded(results), nil
	}
	summary := corpus.Summarize(results)
	fmt.Println()
	if err := summary.Print(os.Stdout); err != nil {
		return 0, err
	}
	if o.out != "" {
		if err := writeJSON(o.out, map[string]any{"schema": "opscenter.corpus/v1", "summary": summary, "results": results}); err != nil {
			return 0, err
		}
	}
	if len(summary.Missed) > 0 {
		return 1, nil
	}
	return 0, nil
}

func parse(args []string) (o options, err error) {
	if len(args) == 0 {
		return o, fmt.Errorf("no verb\n%s", usage)
	}
	o.verb = args[0]
	switch o.verb {
	case "run", "record", "replay", "list":
	default:
		return o, fmt.Errorf("there is no verb %q\n%s", o.verb, usage)
	}
	var match, way string
	f := flag.NewFlagSet("corpus "+o.verb, flag.ContinueOnError)
	f.StringVar(&o.dir, "dir", "", "`folder` of programs, each NAME/main.go with NAME/expect.json (empty = the project's own)")
	f.StringVar(&o.keep, "keep", "", "`folder` to keep captures in, as PROGRAM/agent and PROGRAM/agentless")
	f.StringVar(&o.ops, "ops", "", "`path` of the ops to test (empty = built from this tree)")
	f.StringVar(&o.out, "out", "", "`file` for the results as JSON")
	f.StringVar(&match, "run", "", "only programs whose names match the `regexp`")
	f.StringVar(&way, "way", "", "agent or agentless (empty = both)")
	f.DurationVar(&o.window, "d", 10*time.Second, "length of a capture")
	f.IntVar(&o.jobs, "jobs", 2, "programs that run at once, each on at most two cores")
	f.BoolVar(&o.noise, "noise", false, "keep a busy neighbour on the machine beside the programs")
	f.BoolVar(&o.quick, "quick", false, "only the subset that every test run takes")
	if err := f.Parse(args[1:]); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected %q: programs are chosen by -run", f.Arg(0))
	}
	if o.keep == "" && (o.verb == "record" || o.verb == "replay") {
		return o, errors.New(o.verb + " needs -keep: say where the captures are to be")
	}
	switch corpus.Way(way) {
	case "":
		o.ways = []corpus.Way{corpus.Agentless, corpus.Agent}
	case corpus.Agent, corpus.Agentless:
		o.ways = []corpus.Way{corpus.Way(way)}
	default:
		return o, fmt.Errorf("-way %q: say agent or agentless", way)
	}
	if o.jobs < 1 {
		return o, fmt.Errorf("-jobs %d: at least one", o.jobs)
	}
	if o.match, err = regexp.Compile(match); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	if o.root, err = moduleRoot(); err != nil {
		return o, err
	}
	if o.foreign = o.dir != ""; !o.foreign {
		o.dir = filepath.Join(o.root, "internal", "diagnosis", "corpus", "testdata", "programs")
	}
	return o, nil
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	file := strings.TrimSpace(string(out))
	if file == "" || file == os.DevNull {
		return "", errors.New("not in the module: run it from the checkout")
	}
	return filepath.Dir(file), nil
}

// results runs or replays the programs, and prints what came of each.
func (o options) results(ctx context.Context, programs []corpus.Program) ([]corpus.Result, error) {
	bench := &corpus.Bench{Ops: o.ops, Root: o.root, Window: o.window, Foreign: o.foreign}
	if err := bench.Open(ctx); err != nil {
		return nil, err
	}
	defer bench.Close()
	one := func(p corpus.Program) []corpus.Result { return corpus.Replay(ctx, bench.Ops, o.keep, p, o.ways) }
	if o.verb != "replay" {
		if err := bench.Serve(ctx); err != nil {
			return nil, err
		}
		if err := bench.Build(ctx, programs); err != nil {
			return nil, err
		}
		one = func(p corpus.Program) []corpus.Result { return bench.Live(ctx, p, o.ways, o.keep, o.verb == "run") }
	}

	var (
		mu      sync.Mutex // guards all, and keeps what is printed of a program together
		all     []corpus.Result
		running sync.WaitGroup
		next    = make(chan corpus.Program)
	)
	for range o.jobs {
		running.Go(func() {
			for p := range next {
				results := one(p)
				mu.Lock()
				for _, r := range results {
					r.Print(os.Stdout)
				}
				all = append(all, results...)
				mu.Unlock()
			}
		})
	}
	for _, p := range programs {
		select {
		case next <- p:
		case <-ctx.Done():
		}
	}
	close(next)
	running.Wait()
	return all, ctx.Err()
}

// recorded is the exit code of a recording.
func recorded(results []corpus.Result) (code int) {
	if slices.ContainsFunc(results, func(r corpus.Result) bool { return r.Error != "" }) {
		return 1
	}
	return 0
}

// describe says in the folder of captures what is expected of each program.
func (o options) describe() error {
	all, err := corpus.Load(o.dir, regexp.MustCompile(""))
	if err != nil {
		return err
	}
	var text bytes.Buffer
	corpus.Describe(&text, all)
	return os.WriteFile(filepath.Join(o.keep, "README.txt"), text.Bytes(), 0o644)
}

func writeJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}

// startNoise starts a busy neighbour as a process of its own.
func startNoise() (end func(), err error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, "noise")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may be gone
		_ = cmd.Wait()
	}, nil
}

// noise takes two cores for bursts of 20 to 80 ms, and allocates a little.
func noise(ctx context.Context) {
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				burst := time.Now().Add(time.Duration(20+n*7%60) * time.Millisecond)
				for b := make([]byte, 1<<20); time.Now().Before(burst); {
					for j := range b {
						b[j]++
					}
				}
				time.Sleep(time.Duration(10+n*11%40) * time.Millisecond)
			}
		})
	}
	all.Wait()
}
