// Overhead measures what a capture costs the service it is taken from. A target
// process with the agent in it serves at full load while windows with a capture
// alternate with windows without; every capture is compared with its two
// neighbours, and medians are taken over the rounds. One target is an ordinary
// JSON service over HTTP with a live heap of a quarter of a gigabyte, the other
// a worst case: requests made of channel and mutex operations and little else.
// It also measures what an agent costs that is not asked for anything.
//
//	go run ./bench/overhead [-short] [-rounds n] [-budget 200s]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/opscenter/opscenter/bench/internal/measure"
	"github.com/opscenter/opscenter/internal/agentlink"
	"github.com/opscenter/opscenter/internal/ops"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "overhead:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	short := flag.Bool("short", false, "one round of fewer captures: half a minute")
	rounds := flag.Int("rounds", 5, "most rounds")
	budget := flag.Duration("budget", 200*time.Second, "begin no further round after this time")
	only := flag.String("only", "", "only captures whose name matches this regular expression")
	role := flag.String("role", "", "what a child process is; not for people")
	service := flag.String("service", "", "only this target: json, channels or handoff")
	center := flag.String("center", "", "where a child's agent joins")
	flag.Parse()
	if *role == "target" {
		return target(*service, *center)
	}
	ctx, cancel := context.WithTimeout(ctx, *budget+time.Minute) // ends what hangs
	defer cancel()
	fmt.Println(measure.Machine())
	b := &bench{ctx: ctx, rounds: *rounds, cases: cases, idle: 6 * time.Second, window: time.Second}
	if *short {
		b.rounds, b.idle = 1, 4*time.Second
		b.cases = pick(cases, "nothing: the noise", "cpu", "trace", "**everything, full**", "**everything, balanced**")
	}
	which, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	b.cases = slices.DeleteFunc(slices.Clone(b.cases), func(c capture) bool { return !which.MatchString(c.name) })
	if err := b.listen(); err != nil {
		return err
	}
	defer b.close()
	if err := b.idleCost(); err != nil {
		return err
	}
	services := []struct {
		kind, title string
		share       float64 // of the time that is left
	}{
		{"json", "An ordinary JSON service, 256 MB live heap", 0.5},
		{"channels", "Worst case: 16 channel and mutex operations per request and little else", 0.7},
		{"handoff", "Beyond it: nothing but channels and a mutex", 1},
	}
	all := b.cases
	for _, s := range services {
		if *service != "" && s.kind != *service {
			continue
		}
		b.deadline = time.Now().Add(time.Duration(s.share * float64(*budget-b.used())))
		if b.cases = all; s.kind == "handoff" {
			b.cases = pick(all, "nothing: the noise", "trace", "block, full", "**everything, full**", "**everything, balanced**")
		}
		if err := b.compare(s.kind, s.title); err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
	}
	return nil
}

// capture is one kind of capture to compare.
type capture struct {
	name     string
	kinds    []ops.Kind   // empty = all
	fidelity ops.Fidelity // empty = full
	none     bool         // no capture at all: shows what the machine makes up
}

var cases = []capture{
	{name: "nothing: the noise", none: true},
	{name: "cpu", kinds: []ops.Kind{ops.KindCPU}},
	{name: "trace", kinds: []ops.Kind{ops.KindTrace}},
	{name: "cpu and trace", kinds: []ops.Kind{ops.KindCPU, ops.KindTrace}},
	{name: "block, full", kinds: []ops.Kind{ops.KindBlock}},
	{name: "block, balanced", kinds: []ops.Kind{ops.KindBlock}, fidelity: ops.FidelityBalanced},
	{name: "mutex, full", kinds: []ops.Kind{ops.KindMutex}},
	{name: "heap, allocs", kinds: []ops.Kind{ops.KindHeap, ops.KindAllocs}},
	{name: "goroutine", kinds: []ops.Kind{ops.KindGoroutine, ops.KindGoroutineDump}},
	{name: "**everything, full**"},
	{name: "**everything, balanced**", fidelity: ops.FidelityBalanced},
}

func pick(from []capture, names ...string) []capture {
	return slices.DeleteFunc(slices.Clone(from), func(c capture) bool { return !slices.Contains(names, c.name) })
}

type bench struct {
	ctx      context.Context
	rounds   int
	cases    []capture
	idle     time.Duration
	window   time.Duration
	began    time.Time
	deadline time.Time
	server   *http.Server
	links    *agentlink.Server
	center   string
	joined   fleet
	n        int // captures so far
}

func (b *bench) used() time.Duration { return time.Since(b.began) }

// listen starts the centre's end of the agent protocol.
func (b *bench) listen() error {
	b.began = time.Now()
	b.joined = make(fleet, 1)
	b.links = agentlink.New(agentlink.Config{Fleet: b.joined})
	mux := http.NewServeMux()
	mux.Handle(agentlink.Path, b.links)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.center = "http://" + l.Addr().String()
	b.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = b.server.Serve(l) }() // close ends it
	return nil
}

func (b *bench) close() {
	_ = b.server.Close()
	_ = b.links.Close()
}

// target starts a child; procs 0 = as many as there are.
func (b *bench) target(kind string, procs int, env ...string) (*measure.Child, string, error) {
	cmd, err := measure.Again(b.ctx, "-role", "target", "-service", kind, "-center", b.center)
	if err != nil {
		return nil, "", err
	}
	cmd.Env = append(os.Environ(), "OPS_AGENT=", "OPS_TOKEN_FILE=")
	if procs > 0 {
		cmd.Env = append(cmd.Env, "GOMAXPROCS="+strconv.Itoa(procs))
	}
	cmd.Env = append(cmd.Env, env...)
	return measure.Start(cmd)
}

func (b *bench) link() (ops.Link, error) {
	select {
	case l := <-b.joined:
		return l, nil
	case <-b.ctx.Done():
		return nil, b.ctx.Err()
	case <-time.After(20 * time.Second):
		return nil, errors.New("the agent did not join")
	}
}

// idleCost compares a process that does nothing with an agent with one without.
func (b *bench) idleCost() error {
	without, _, err := b.target("idle", 0, "OPS_AGENT=off")
	if err != nil {
		return err
	}
	defer without.Kill()
	with, _, err := b.target("idle", 0)
	if err != nil {
		return err
	}
	defer with.Kill()
	link, err := b.link()
	if err != nil {
		return err
	}
	sleep(b.ctx, time.Second) // joining is not idling
	idle, err := b.usage(b.idle, with, without)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(b.ctx)
	var watched sync.WaitGroup
	defer watched.Wait()
	defer cancel()
	watched.Go(func() { _ = link.Watch(ctx, time.Second, true, func(ops.Sample) {}) }) // ends with ctx
	busy, err := b.usage(b.idle, with, without)
	if err != nil {
		return err
	}
	fmt.Printf("\nA process that does nothing else, %v each\n\n", b.idle)
	var t measure.Table
	t.Row("", "CPU, % of a core", "RSS MB")
	t.Row("without agent", fmt.Sprintf("%.2f", idle[1].share), fmt.Sprintf("%.1f", idle[1].rss))
	t.Row("idle agent, heartbeats", fmt.Sprintf("%.2f", idle[0].share), fmt.Sprintf("%.1f", idle[0].rss))
	t.Row("agent watched, all metrics at 1 Hz", fmt.Sprintf("%.2f", busy[0].share), fmt.Sprintf("%.1f", busy[0].rss))
	t.Print(os.Stdout)
	return nil
}

type idling struct{ share, rss float64 }

func (b *bench) usage(d time.Duration, children ...*measure.Child) ([]idling, error) {
	read := func() ([]measure.Usage, error) {
		u := make([]measure.Usage, len(children))
		for i, c := range children {
			if err := c.AskFor("usage", &u[i]); err != nil {
				return nil, err
			}
		}
		return u, nil
	}
	before, err := read()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	sleep(b.ctx, d)
	after, err := read()
	if err != nil {
		return nil, err
	}
	out := make([]idling, len(children))
	for i := range out {
		out[i] = idling{(after[i].CPU - before[i].CPU).Seconds() / time.Since(began).Seconds() * 100, float64(after[i].RSS) / (1 << 20)}
	}
	return out, nil
}

// interval is what happened between two moments, per second.
type interval struct {
	rps, p99, cpu float64 // cpu: seconds per request
}

// ratios of one capture to the windows beside it.
type ratios struct {
	rps, p99, cpu float64
	ends          float64 // milliseconds of full service lost before and after the window
}

func (b *bench) compare(kind, title string) error {
	procs := max(runtime.NumCPU()/2, 1)
	child, address, err := b.target(kind, procs)
	if err != nil {
		return err
	}
	defer child.Kill()
	link, err := b.link()
	if err != nil {
		return err
	}
	between := func(from, to time.Time) (s served, err error) {
		return s, child.AskFor(fmt.Sprint(from.UnixNano(), " ", to.UnixNano()), &s)
	}
	reset := func() error { _, err := child.Ask("reset"); return err }
	if kind == "json" { // asked from here, where the requests are noted
		var rec recorder
		ctx, cancel := context.WithCancel(b.ctx)
		failed := make(chan error, 1)
		var load sync.WaitGroup
		defer load.Wait()
		defer cancel()
		load.Go(func() { failed <- shoppers(ctx, address, &rec) })
		fromChild, resetChild := between, reset
		between = func(from, to time.Time) (served, error) {
			select {
			case err := <-failed:
				return served{}, fmt.Errorf("the load ended: %w", err)
			default:
			}
			s, err := fromChild(from, to)
			mine := rec.between(from.UnixNano(), to.UnixNano())
			s.Requests, s.P99 = mine.Requests, mine.P99
			return s, err
		}
		reset = func() error { rec.reset(); return resetChild() }
	}
	measured := func(from, to time.Time) (i interval, err error) {
		s, err := between(from, to)
		if err == nil && s.Requests == 0 {
			err = errors.New("nothing was served")
		}
		if err != nil {
			return i, err
		}
		return interval{float64(s.Requests) / to.Sub(from).Seconds(), s.P99.Seconds(), s.CPU.Seconds() / float64(s.Requests)}, nil
	}
	off := func() (interval, error) {
		sleep(b.ctx, 100*time.Millisecond) // what the capture left behind
		if err := reset(); err != nil {
			return interval{}, err
		}
		began := time.Now()
		sleep(b.ctx, b.window)
		return measured(began, time.Now())
	}
	sleep(b.ctx, 2*time.Second) // warm
	before, err := off()
	if err != nil {
		return err
	}
	plain := []interval{before}
	got := make([][]ratios, len(b.cases))
	done := 0
	for ; done < b.rounds && (done == 0 || time.Now().Before(b.deadline)); done++ {
		for i := range b.cases {
			at := (i + done) % len(b.cases)
			c := b.cases[at]
			if err := reset(); err != nil {
				return err
			}
			began := time.Now()
			sum, err := b.collect(link, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			ended := time.Now()
			on, err := measured(sum.WindowStart, sum.WindowEnd)
			if err != nil {
				return err
			}
			whole, err := between(began, ended)
			if err != nil {
				return err
			}
			in, err := between(sum.WindowStart, sum.WindowEnd)
			if err != nil {
				return err
			}
			after, err := off()
			if err != nil {
				return err
			}
			plain = append(plain, after)
			rps := (before.rps + after.rps) / 2
			ends := (ended.Sub(began) - sum.WindowEnd.Sub(sum.WindowStart)).Seconds()
			got[at] = append(got[at], ratios{
				on.rps / rps, on.p99 / ((before.p99 + after.p99) / 2), on.cpu / ((before.cpu + after.cpu) / 2),
				(ends - float64(whole.Requests-in.Requests)/rps) * 1000,
			})
			before = after
		}
	}
	of := func(f func(interval) float64) float64 {
		v := make([]float64, len(plain))
		for i := range plain {
			v[i] = f(plain[i])
		}
		return measure.Median(v)
	}
	fmt.Printf("\n%s, GOMAXPROCS=%d, median of %d; without a capture %.0f requests/s, p99 %.2f ms, %.0f µs CPU each\n\n", title, procs, done,
		of(func(i interval) float64 { return i.rps }), of(func(i interval) float64 { return i.p99 })*1e3, of(func(i interval) float64 { return i.cpu })*1e6)
	var t measure.Table
	t.Row("capture", "throughput ×", "p99 ×", "CPU per request ×", "both ends, ms of service")
	for i, c := range b.cases {
		m := func(f func(ratios) float64) float64 {
			v := make([]float64, len(got[i]))
			for k, r := range got[i] {
				v[k] = f(r)
			}
			return measure.Median(v)
		}
		t.Row(c.name,
			fmt.Sprintf("%.2f", m(func(r ratios) float64 { return r.rps })), fmt.Sprintf("%.2f", m(func(r ratios) float64 { return r.p99 })),
			fmt.Sprintf("%.2f", m(func(r ratios) float64 { return r.cpu })), fmt.Sprintf("%.0f", m(func(r ratios) float64 { return r.ends })))
	}
	t.Print(os.Stdout)
	return nil
}

func (b *bench) collect(l ops.Link, c capture) (ops.CollectSummary, error) {
	if c.none {
		began := time.Now()
		sleep(b.ctx, b.window)
		return ops.CollectSummary{WindowStart: began, WindowEnd: time.Now()}, nil
	}
	spec, err := ops.Spec{Duration: b.window, Kinds: c.kinds, Fidelity: c.fidelity}.Normalize()
	if err != nil {
		return ops.CollectSummary{}, err
	}
	b.n++
	return l.Collect(b.ctx, ops.CaptureID("bench-overhead-"+strconv.Itoa(b.n)), spec, nowhere{})
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// fleet takes the links of those who join and watches them as the real one does.
type fleet chan ops.Link

// Join implements agentlink.Joiner.
func (f fleet) Join(ctx context.Context, _ ops.Instance, l ops.Link) error {
	select {
	case f <- l:
	case <-ctx.Done():
		return ctx.Err()
	}
	return l.Watch(ctx, 5*time.Second, false, func(ops.Sample) {})
}

// nowhere takes artifacts and keeps nothing.
type nowhere struct{}

// Progress implements ops.Sink.
func (nowhere) Progress(ops.Progress) {}

// Begin implements ops.Sink.
func (nowhere) Begin(ops.Artifact) (ops.ArtifactWriter, error) { return new(forgotten), nil }

type forgotten int64

func (f *forgotten) Write(p []byte) (int, error) { *f += forgotten(len(p)); return len(p), nil }
func (f *forgotten) Offset() int64               { return int64(*f) }
func (f *forgotten) Abort(ops.Loss) error        { return nil }

// Commit implements ops.ArtifactWriter.
func (f *forgotten) Commit(int64, []byte, ops.Artifact) error { return nil }
