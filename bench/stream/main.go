// Stream measures how fast an artifact gets from an agent to the centre, over
// the tunnel and through the code that both really use, next to other ways to
// move the same file between two processes: raw TCP, an HTTP download, and gRPC
// as it comes. Every figure is one of a pair of fresh processes on loopback;
// rounds are interleaved and medians taken, so that a busy machine is equally
// busy for all.
//
//	go run ./bench/stream [-short] [-rounds n] [-budget 3m]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/opscenter/opscenter/bench/internal/measure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "stream:", err)
		os.Exit(1)
	}
}

type options struct {
	short  bool
	rounds int
	budget time.Duration
	only   string
	// Of a child.
	role, peer, address, dir string
	size                     int64
	streams                  int
	tls                      bool
}

func run(ctx context.Context) error {
	var o options
	flag.BoolVar(&o.short, "short", false, "256 MiB instead of 1 GiB, no 4 GiB, one round: half a minute")
	flag.IntVar(&o.rounds, "rounds", 3, "most rounds of the 1 GiB table")
	flag.DurationVar(&o.budget, "budget", 3*time.Minute, "begin nothing new after this time")
	flag.StringVar(&o.only, "only", "", "only ways whose name matches this regular expression")
	flag.StringVar(&o.role, "role", "", "what a child process is; not for people")
	flag.StringVar(&o.peer, "peer", "", "a child's way to transfer")
	flag.StringVar(&o.address, "address", "", "where a child connects to")
	flag.StringVar(&o.dir, "dir", "", "where a child finds its files")
	flag.Int64Var(&o.size, "size", 0, "how much a child transfers")
	flag.IntVar(&o.streams, "streams", 1, "over how many connections at once")
	flag.BoolVar(&o.tls, "tls", false, "whether a child uses TLS")
	flag.Parse()
	if o.role == "" {
		return o.parent(ctx)
	}
	var id *identity
	if o.tls {
		var err error
		if id, err = readIdentity(o.dir); err != nil {
			return err
		}
	}
	switch o.role {
	case "sender":
		return sender(o.peer, filepath.Join(o.dir, "data"), o.size, id)
	case "receiver":
		return receiver(o.peer, o.address, o.size, o.streams, id)
	case "centre":
		return centre(o.streams, id)
	}
	return fmt.Errorf("there is no role %q", o.role)
}

// way is one way to transfer.
type way struct {
	name, peer string // peer "" = ours
	tls        bool
}

var ways = []way{
	{"raw TCP, `io.Copy`", "tcp", false},
	{"raw TCP, sendfile", "sendfile", false},
	{"net/http download", "http", false},
	{"gRPC, defaults", "grpc", false},
	{"**agent → centre**", "", false},
	{"TCP-TLS, `io.Copy`", "tcp", true},
	{"net/http download, TLS", "http", true},
	{"gRPC, defaults, TLS", "grpc", true},
	{"**agent → centre, TLS**", "", true},
}

// outcome is one transfer.
type outcome struct {
	got
	senderCPU  float64
	senderPeak float64
}

type bench struct {
	ctx      context.Context
	dir      string
	id       *identity
	deadline time.Time
}

func (o options) parent(ctx context.Context) error {
	began := time.Now()
	dir, err := os.MkdirTemp("", "opscenter-bench-stream-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(ctx, o.budget+time.Minute) // kills what hangs
	defer cancel()
	fmt.Println(measure.Machine())
	if err := makeIdentity(dir); err != nil {
		return err
	}
	b := &bench{ctx: ctx, dir: dir, deadline: began.Add(o.budget)}
	if b.id, err = readIdentity(dir); err != nil {
		return err
	}
	if err := buildAgents(ctx, filepath.Join(dir, "agents")); err != nil {
		return err
	}
	const GiB, MB = 1 << 30, 1 << 20
	size, rounds, instances, each := int64(GiB), o.rounds, 100, int64(50*MB)
	if o.short {
		size, rounds, instances, each = GiB/4, 1, 20, 10*MB
	}

	only, err := regexp.Compile(o.only)
	if err != nil {
		return err
	}
	all := func(w way) bool { return only.MatchString(w.name) }
	// The rounds of the first table may take half of the time.
	b.deadline = began.Add(o.budget / 2)
	if err := b.table(fmt.Sprintf("One instance, %d MiB", size/MB), size, 1, rounds, all); err != nil {
		return err
	}
	b.deadline = began.Add(o.budget)
	if err := b.table(fmt.Sprintf("%d instances at once, %d MiB each", instances, each/MB), each, instances, 1, all); err != nil {
		return err
	}
	if o.short || time.Now().After(b.deadline) {
		return nil
	}
	return b.table("One instance, 4096 MiB", 4*GiB, 1, 1, func(w way) bool {
		return all(w) && (w.peer == "tcp" || w.peer == "") && time.Now().Before(b.deadline)
	})
}

// table measures every way in rounds and prints the medians.
func (b *bench) table(title string, size int64, streams, rounds int, which func(way) bool) error {
	if err := fill(filepath.Join(b.dir, "data"), size); err != nil {
		return err
	}
	results := map[way][]outcome{}
	done := 0
	for ; done < rounds && (done == 0 || time.Now().Before(b.deadline)); done++ {
		for _, w := range ways {
			if !which(w) {
				continue
			}
			r, err := b.transfer(w, size, streams)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			if r.Bytes != size*int64(streams) {
				return fmt.Errorf("%s: %d bytes arrived of %d", w.name, r.Bytes, size*int64(streams))
			}
			results[w] = append(results[w], r)
		}
	}
	if len(results) == 0 {
		return nil // there was no time, or nothing was asked for
	}
	fmt.Printf("\n%s, median of %d\n\n", title, done)
	var t measure.Table
	t.Row("way", "s", "MB/s", "× TCP", "CPU-s/GiB receiving", "CPU-s/GiB sending", "peak RSS MB receiving", "sending")
	base := map[bool]float64{}
	for _, w := range ways {
		if r := results[w]; w.peer == "tcp" {
			base[w.tls] = median(r, func(o outcome) float64 { return o.Seconds })
		}
	}
	total := float64(size) * float64(streams)
	for _, w := range ways {
		r := results[w]
		if len(r) == 0 {
			continue
		}
		s := median(r, func(o outcome) float64 { return o.Seconds })
		t.Row(w.name, fmt.Sprintf("%.2f", s), fmt.Sprintf("%.0f", total/s/1e6), ratio(base[w.tls], s),
			fmt.Sprintf("%.2f", median(r, func(o outcome) float64 { return o.CPU })/total*(1<<30)),
			fmt.Sprintf("%.2f", median(r, func(o outcome) float64 { return o.senderCPU })/total*(1<<30)),
			fmt.Sprintf("%.0f", median(r, func(o outcome) float64 { return float64(o.Peak) })/(1<<20)),
			fmt.Sprintf("%.0f", median(r, func(o outcome) float64 { return o.senderPeak })/(1<<20)))
	}
	t.Print(os.Stdout)
	return nil
}

func ratio(a, b float64) string {
	if a == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a/b)
}

func median(r []outcome, of func(outcome) float64) float64 {
	v := make([]float64, len(r))
	for i := range r {
		v[i] = of(r[i])
	}
	return measure.Median(v)
}

// transfer starts a pair of processes, lets them do it once and ends them.
func (b *bench) transfer(w way, size int64, streams int) (outcome, error) {
	if err := b.ctx.Err(); err != nil {
		return outcome{}, err
	}
	if err := warm(filepath.Join(b.dir, "data"), size); err != nil {
		return outcome{}, err
	}
	child := func(role, address string) (*measure.Child, string, error) {
		cmd, err := measure.Again(b.ctx, "-role", role, "-peer", w.peer, "-address", address, "-dir", b.dir,
			"-size", strconv.FormatInt(size, 10), "-streams", strconv.Itoa(streams), "-tls="+strconv.FormatBool(w.tls))
		if err != nil {
			return nil, "", err
		}
		return measure.Start(cmd)
	}
	var id *identity
	if w.tls {
		id = b.id
	}
	var send, receive *measure.Child
	if w.peer == "" {
		centre, address, err := child("centre", "")
		if err != nil {
			return outcome{}, err
		}
		defer centre.Kill()
		agents, _, err := measure.Start(agents(b.ctx, filepath.Join(b.dir, "agents"), address, filepath.Join(b.dir, "data"), size, streams, id))
		if err != nil {
			return outcome{}, err
		}
		defer agents.Kill()
		send, receive = agents, centre
	} else {
		sender, address, err := child("sender", "")
		if err != nil {
			return outcome{}, err
		}
		defer sender.Kill()
		receiver, _, err := child("receiver", address)
		if err != nil {
			return outcome{}, err
		}
		defer receiver.Kill()
		send, receive = sender, receiver
	}
	var r outcome
	if err := receive.AskFor("get", &r.got); err != nil {
		return r, err
	}
	var used [2]float64
	if err := send.AskFor("usage", &used); err != nil {
		return r, err
	}
	r.senderCPU, r.senderPeak = used[0], used[1]
	return r, nil
}
