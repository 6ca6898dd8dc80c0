// Watch measures what it costs a service to be watched: by an agent that is asked
// for nothing, by rules, and by the flight recorder. The service is the Color
// Game's game-service under as many bets as it can take; the worst case is a
// process of goroutines that do nothing but hand over to each other. Windows with
// and without alternate in one run, every one with is compared with its two
// neighbours, and the mean is of the middle half of all
// rounds, so that neither a window that another program spoilt counts, nor is what
// happens once a second left out.
//
//	go run ./bench/watch [-short] [-budget 200s]
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
	"slices"
	"time"

	"github.com/opscenter/opscenter/bench/internal/measure"
	"github.com/opscenter/opscenter/internal/agentlink"
	"github.com/opscenter/opscenter/internal/ops"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "watch:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	short := flag.Bool("short", false, "half a minute")
	budget := flag.Duration("budget", 200*time.Second, "begin no further round after this time")
	window := flag.Duration("window", 400*time.Millisecond, "how long each measurement is")
	role := flag.String("role", "", "what a child process is; not for people")
	center := flag.String("center", "", "where a child's agent joins")
	flag.Parse()
	if *role == "pingpong" {
		return pingPong(*center)
	}
	if *short {
		*budget = 24 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, *budget+2*time.Minute) // ends what hangs
	defer cancel()
	fmt.Println(measure.Machine())
	b := &bench{ctx: ctx, window: *window}
	if err := b.listen(); err != nil {
		return err
	}
	defer b.close()
	program, err := build(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(program.dir) }()
	if err := b.colorGame(program, time.Now().Add(*budget*7/10)); err != nil {
		return fmt.Errorf("the Color Game: %w", err)
	}
	if err := b.worstCase(time.Now().Add(*budget * 3 / 10)); err != nil {
		return fmt.Errorf("the worst case: %w", err)
	}
	return nil
}

type bench struct {
	ctx    context.Context
	window time.Duration
	server *http.Server
	links  *agentlink.Server
	center string
	joined fleet
}

// listen starts the centre's end of the agent protocol.
func (b *bench) listen() error {
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

// ruled is the next process that joins.
func (b *bench) ruled() (ops.Ruled, error) {
	select {
	case l := <-b.joined:
		r, ok := l.(ops.Ruled)
		if !ok {
			return nil, errors.New("the agent knows no rules")
		}
		return r, nil
	case <-b.ctx.Done():
		return nil, b.ctx.Err()
	case <-time.After(30 * time.Second):
		return nil, errors.New("the agent did not join")
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

// rules are one of each kind, as a busy service may have them; none of them is
// ever met. The recorder's is a rule that takes the last seconds.
func rules(recorder bool) []ops.Rule {
	bounds := ops.RuleBounds{Cooldown: time.Minute, Budget: 1, Per: time.Hour, MaxMemory: 0.95}
	var out []ops.Rule
	for metric, level := range map[string]float64{
		"cpu": 10, "goroutines": 1e9, "memory": 10, "heap-slope": 1e15, "sched-p99": 1000, "pool-waiters": 1e9,
	} {
		out = append(out, ops.Rule{Name: metric, Revision: "1", Bounds: bounds, Trigger: ops.RuleTrigger{Metric: metric, Level: level, Hold: 10 * time.Second}})
	}
	slow := ops.RuleTrigger{Signal: "*", Longer: time.Hour, Times: 100, Within: time.Minute}
	out = append(out, ops.Rule{Name: "slow", Revision: "1", Bounds: bounds, Trigger: slow})
	slow.Quantile = 0.99
	out = append(out, ops.Rule{Name: "quantile", Revision: "1", Bounds: bounds, Trigger: slow})
	if recorder {
		slow.Quantile = 0
		out = append(out, ops.Rule{Name: "recorder", Revision: "1", Bounds: bounds, Trigger: slow, Actions: []ops.RuleAction{{Kind: ops.RuleFlight, Last: 5 * time.Second}}})
	}
	return out
}

// setting is one way to be watched.
type setting struct {
	name string
	set  func(on bool) error // switches it
}

func settings(ctx context.Context, link ops.Ruled) []setting {
	give := func(r []ops.Rule) func(bool) error {
		return func(on bool) error {
			if !on {
				return link.SetRules(ctx, nil)
			}
			return link.SetRules(ctx, r)
		}
	}
	return []setting{
		{"nothing: the noise", func(bool) error { return nil }},
		{"**eight rules**", give(rules(false))},
		{"**rules and the flight recorder, 6 s**", give(rules(true))},
	}
}

// interval is what happened in a window.
type interval struct {
	rate float64 // operations a second
	p99  float64 // seconds
	cpu  float64 // seconds an operation; 0 = unknown
}

type ratios struct{ rate, p99, cpu float64 }

func (i interval) over(a, b interval) ratios {
	r := ratios{rate: i.rate / ((a.rate + b.rate) / 2), p99: i.p99 / ((a.p99 + b.p99) / 2)}
	if a.cpu+b.cpu > 0 {
		r.cpu = i.cpu / ((a.cpu + b.cpu) / 2)
	}
	return r
}

// settle is how long a switch may take to have its effect.
const settle = 150 * time.Millisecond

// alternate compares each setting with what is before and after it.
func (b *bench) alternate(all []setting, until time.Time, measureOne func() (interval, error)) (got [][]ratios, plain []interval, err error) {
	got = make([][]ratios, len(all))
	before, err := measureOne()
	if err != nil {
		return nil, nil, err
	}
	plain = append(plain, before)
	for round := 0; round == 0 || time.Now().Before(until); round++ {
		for i := range all {
			at := (i + round) % len(all)
			if err := all[at].set(true); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", all[at].name, err)
			}
			sleep(b.ctx, settle)
			with, err := measureOne()
			if err != nil {
				return nil, nil, err
			}
			if err := all[at].set(false); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", all[at].name, err)
			}
			sleep(b.ctx, settle)
			after, err := measureOne()
			if err != nil {
				return nil, nil, err
			}
			plain = append(plain, after)
			got[at] = append(got[at], with.over(before, after))
			before = after
		}
		if b.ctx.Err() != nil {
			return nil, nil, b.ctx.Err()
		}
	}
	return got, plain, nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func median[T any](of []T, f func(T) float64) float64 {
	v := make([]float64, len(of))
	for i := range of {
		v[i] = f(of[i])
	}
	return measure.Median(v)
}

// middle is the mean of the middle half.
func middle[T any](of []T, f func(T) float64) float64 {
	v := make([]float64, len(of))
	for i := range of {
		v[i] = f(of[i])
	}
	slices.Sort(v)
	v = v[len(v)/4 : len(v)-len(v)/4]
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func row(t *measure.Table, name string, r []ratios) {
	t.Row(name,
		fmt.Sprintf("%.3f", middle(r, func(r ratios) float64 { return r.rate })),
		fmt.Sprintf("%.3f", middle(r, func(r ratios) float64 { return r.p99 })),
		fmt.Sprintf("%.3f", middle(r, func(r ratios) float64 { return r.cpu })))
}

func title(what string, rounds int, plain []interval) {
	fmt.Printf("\n%s, %d rounds; unwatched %.0f a second, p99 %.3f ms, %.2f µs CPU each\n\n", what, rounds,
		median(plain, func(i interval) float64 { return i.rate }), 1e3*median(plain, func(i interval) float64 { return i.p99 }), 1e6*median(plain, func(i interval) float64 { return i.cpu }))
}
