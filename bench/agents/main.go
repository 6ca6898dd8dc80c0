// Command agents measures what registered agents cost the centre: memory for
// each, the time until all are registered, and the time until a mass death is
// noticed. The centre's side (agentlink and fleet) runs in a process of its own;
// so do the agents, which speak the real protocol on real connections, and are
// killed as kill -9 does.
//
//	go run ./bench/agents            # 1,000, 3,000 over TLS, 10,000
//	go run ./bench/agents -n 500 -tls
//	go run ./bench/agents -storm -n 3000     # real agents that join by certificate lose their centre
//	unshare -n sh -c 'ip link set lo up && go run ./bench/agents -storm -n 3000 -cut 60s'
//
// It knows nothing of captures.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/opscenter/opscenter/bench/internal/crowd"
	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/agentlink"
	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/ops"
)

// within bounds a whole run of one size.
const within = 3 * time.Minute

func main() {
	log.SetFlags(0)
	role := flag.String("role", "", "internal: centre or agents")
	n := flag.Int("n", 0, "agents; 0 = 1000, 3000 over TLS and 10000, one after the other")
	secure := flag.Bool("tls", false, "connect over TLS")
	settle := flag.Duration("settle", 12*time.Second, "how long the agents beat before memory is read")
	center := flag.String("centre", "", "internal: the centre's address")
	dir := flag.String("dir", "", "internal: what the centre keeps")
	lost := flag.Bool("storm", false, "let real agents join by certificate and lose their centre")
	away := flag.Duration("away", 10*time.Second, "with -storm: how long the centre is away")
	cut := flag.Duration("cut", 0, "with -storm: take the network away for so long as well; root in a network of its own")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch *role {
	case "centre":
		err = runCentre(*secure)
	case "agents":
		err = runAgents(ctx, *center, *n, *secure)
	case "gate":
		err = runGate(*dir, *center)
	case "joiners":
		err = runJoiners(*center, *n, *dir)
	default:
		if *lost {
			ctx, cancel := context.WithTimeout(ctx, 2*within+*cut)
			defer cancel()
			err = storm(ctx, cmp.Or(*n, 3000), *settle, *away, *cut)
			break
		}
		err = compare(ctx, *n, *secure, *settle)
	}
	if err != nil {
		log.Fatal(err)
	}
}

type size struct {
	n   int
	tls bool
}

func compare(ctx context.Context, n int, secure bool, settle time.Duration) error {
	sizes := []size{{1000, false}, {3000, true}, {10_000, false}}
	if n > 0 {
		sizes = []size{{n, secure}}
	}
	fmt.Printf("%s %s/%s, %d CPUs\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	fmt.Println("| agents | TLS | registered in | RSS of the centre | per agent | after GC | goroutines per agent | CPU while idle | mass death noticed in |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	for _, s := range sizes {
		if err := measure(ctx, s, settle); err != nil {
			return fmt.Errorf("%d agents: %w", s.n, err)
		}
	}
	return nil
}

// state is what the centre's process says of itself.
type state struct {
	Up, Suspect int
	RSS         int64 // bytes
	RSSAfterGC  int64
	Goroutines  int
	CPU         time.Duration // user and system, ever
	Busiest     int           // connections in one second, at most
}

// child is a process of this program in another role.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(ctx context.Context, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, self, args...)}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.cmd.Start()
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	_ = c.cmd.Wait()         // by the kill
}

func (c *child) line() (string, error) {
	s, err := c.out.ReadString('\n')
	return strings.TrimSpace(s), err
}

func (c *child) ask(question string) (s state, err error) {
	if _, err := io.WriteString(c.in, question+"\n"); err != nil {
		return s, err
	}
	answer, err := c.line()
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(answer), &s)
}

func measure(ctx context.Context, s size, settle time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	secure := fmt.Sprintf("-tls=%v", s.tls)
	centre, err := startChild(ctx, "-role=centre", secure)
	if err != nil {
		return err
	}
	defer centre.kill()
	address, err := centre.line()
	if err != nil {
		return err
	}
	before, err := centre.ask("state")
	if err != nil {
		return err
	}
	began := time.Now()
	agents, err := startChild(ctx, "-role=agents", secure, "-n="+strconv.Itoa(s.n), "-centre="+address)
	if err != nil {
		return err
	}
	defer agents.kill()
	if _, err := centre.ask("up " + strconv.Itoa(s.n)); err != nil {
		return err
	}
	registered := time.Since(began)
	idle, err := centre.ask("cpu")
	if err != nil {
		return err
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	now, err := centre.ask("state")
	if err != nil {
		return err
	}
	if now.Up != s.n {
		return fmt.Errorf("%d of %d are up after %v", now.Up, s.n, settle)
	}
	killed := time.Now()
	agents.kill()
	if _, err := centre.ask("up 0"); err != nil {
		return err
	}
	noticed := time.Since(killed)
	fmt.Printf("| %d | %v | %.1f s | %d MiB | %.1f KiB | %.1f KiB | %.1f | %.1f %% of a core | %.2f s |\n",
		s.n, s.tls, registered.Seconds(), now.RSS>>20, perAgent(now.RSS-before.RSS, s.n), perAgent(now.RSSAfterGC-before.RSSAfterGC, s.n),
		float64(now.Goroutines-before.Goroutines)/float64(s.n), 100*(now.CPU-idle.CPU).Seconds()/settle.Seconds(), noticed.Seconds())
	return nil
}

func perAgent(bytes int64, n int) float64 { return float64(bytes) / 1024 / float64(n) }

// runCentre is a centre reduced to its agents. It answers questions on stdin
// until that is closed.
func runCentre(secure bool) error {
	raiseFileLimit()
	f := fleet.New(fleet.Config{Store: noStore{}})
	s := agentlink.New(agentlink.Config{Fleet: f})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var running errgroup.Group
	running.Go(func() error { return f.Run(ctx) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := ln.Addr().String()
	if secure {
		cert, err := certificate()
		if err != nil {
			return err
		}
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	}
	mux := http.NewServeMux()
	mux.Handle(agentlink.Path, s)
	hs := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	running.Go(func() error {
		if err := hs.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	seen := &census{fleet: f, sub: f.Subscribe(), up: map[ops.InstanceID]bool{}}
	defer seen.sub.Close()
	fmt.Println(address)
	if err := answerQuestions(f, seen, func() int { return 0 }); err != nil {
		return err
	}
	cancel()
	return errors.Join(s.Close(), hs.Close(), running.Wait())
}

// answerQuestions answers what the parent asks until it asks no more.
func answerQuestions(f *fleet.Fleet, seen *census, busiest func() int) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var answer state
		question, number, _ := strings.Cut(in.Text(), " ")
		switch question {
		case "state":
			answer = read(f)
			answer.RSS = rss()
			debug.FreeOSMemory()
			answer.RSSAfterGC = rss()
		case "cpu":
			answer = read(f)
		case "up":
			want, err := strconv.Atoi(number)
			if err != nil {
				return err
			}
			if err := seen.until(want); err != nil {
				return err
			}
		}
		answer.Busiest = busiest()
		if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
			return err
		}
	}
	return in.Err()
}

// census counts who is up from what the fleet publishes, as its viewers do.
type census struct {
	fleet *fleet.Fleet
	sub   *changes.Subscription[ops.InstanceID]
	up    map[ops.InstanceID]bool
}

func (c *census) until(n int) error {
	for len(c.up) != n {
		changed, err := c.sub.Next(context.Background())
		if err != nil {
			return err
		}
		for _, id := range changed {
			if i, err := c.fleet.Instance(id); err == nil && i.State == ops.InstanceUp {
				c.up[id] = true
			} else {
				delete(c.up, id)
			}
		}
	}
	return nil
}

func read(f *fleet.Fleet) state {
	s := state{Goroutines: runtime.NumGoroutine(), CPU: cpuTime()}
	for _, i := range f.Instances(fleet.Filter{}) {
		switch i.State {
		case ops.InstanceUp:
			s.Up++
		case ops.InstanceSuspect:
			s.Suspect++
		}
	}
	return s
}

// rss reads what the kernel says; 0 where there is no /proc.
func rss() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for l := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(l, []byte("VmRSS:")); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(v)), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// noStore forgets everything, so that only the fleet itself is measured.
type noStore struct{}

func (noStore) PutInstance(context.Context, ops.Instance) error                        { return nil }
func (noStore) Instances(context.Context, time.Time) ([]ops.Instance, error)           { return nil, nil }
func (noStore) DeleteInstances(context.Context, time.Time) error                       { return nil }
func (noStore) AppendHistory(context.Context, []ops.HistoryPoint, time.Duration) error { return nil }
func (noStore) DeleteHistory(context.Context, time.Time, time.Duration) error          { return nil }
func (noStore) History(context.Context, ops.InstanceID, time.Time, time.Time, time.Duration) ([]ops.Heartbeat, error) {
	return nil, nil
}

func certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// runAgents holds n connections, each of which is a process of its own as far as
// the centre can tell, until it is killed or its parent ends.
func runAgents(ctx context.Context, center string, n int, secure bool) error {
	raiseFileLimit()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { // the parent closes our stdin when it ends
		_, err := io.Copy(io.Discard, os.Stdin)
		cancel()
		return err
	})
	g.Go(func() error {
		return crowd.Run(ctx, crowd.Config{
			Centre: center, N: n, TLS: secure,
			Name:  func(n int) (string, string, string) { return "bench", "agents", fmt.Sprintf("boot-%06d", n) },
			Hello: hello, Beat: beat,
		})
	})
	return g.Wait()
}

func hello(n int) *agentv1.HelloResponse {
	return &agentv1.HelloResponse{
		AgentVersion: "bench",
		Labels:       map[string]string{"zone": "z1", "version": "1.2.3"},
		Build:        &agentv1.BuildInfo{GoVersion: runtime.Version(), ModulePath: "example.com/game", VcsRevision: strings.Repeat("0", 40), Goos: runtime.GOOS, Goarch: runtime.GOARCH},
		Process:      &agentv1.ProcessInfo{Pid: 1, Hostname: fmt.Sprintf("host-%06d", n), StartTime: timestamppb.Now(), Gomaxprocs: 4, Executable: "/usr/bin/game"},
		Kinds:        []agentv1.Kind{agentv1.Kind_KIND_CPU, agentv1.Kind_KIND_HEAP, agentv1.Kind_KIND_GOROUTINE, agentv1.Kind_KIND_TRACE},
	}
}

func beat(_ int, n int64) *agentv1.Heartbeat {
	return &agentv1.Heartbeat{
		CpuCores: 0.25, Goroutines: 100 + n%7, GoroutinesWaiting: 99, LiveHeapBytes: 50 << 20, RssBytes: 120 << 20, MemoryLimitBytes: 512 << 20,
		GcCpuFraction: 0.01, SchedLatencyP99Seconds: 0.0002, HeapObjects: 400_000 + n, GcCycles: n, Gomaxprocs: 4, Threads: 11,
	}
}
