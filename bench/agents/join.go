package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/internal/agentlink"
	"github.com/opscenter/opscenter/internal/audit"
	auditsqlite "github.com/opscenter/opscenter/internal/audit/sqlite"
	"github.com/opscenter/opscenter/internal/auth/autotls"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/join"
	"github.com/opscenter/opscenter/internal/ops"
)

// storm measures what happens when agents that joined by certificate lose their
// centre: it is killed and started again, and, where asked for, the network
// between them is gone for a while. The agents are real ones, with
// their own ideas of when to dial again.
func storm(ctx context.Context, n int, settle, away, cut time.Duration) error {
	dir, err := os.MkdirTemp("", "bench-join-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	centre, address, err := startGate(ctx, dir, "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { centre.kill() }()
	before, err := centre.ask("state")
	if err != nil {
		return err
	}
	began := time.Now()
	agents, err := startChild(ctx, "-role=joiners", "-n="+strconv.Itoa(n), "-centre="+address, "-dir="+dir)
	if err != nil {
		return err
	}
	defer agents.kill()
	up := "up " + strconv.Itoa(n)
	if _, err := centre.ask(up); err != nil {
		return err
	}
	joined := time.Since(began)
	if err := rest(ctx, settle); err != nil {
		return err
	}
	now, err := centre.ask("state")
	if err != nil {
		return err
	}
	fmt.Printf("%d agents joined and connected in %.1f s (busiest second: %d connections)\n", n, joined.Seconds(), now.Busiest)
	fmt.Printf("RSS %d MiB: %.1f KiB for each, %.1f KiB after a collection\n", now.RSS>>20, perAgent(now.RSS-before.RSS, n), perAgent(now.RSSAfterGC-before.RSSAfterGC, n))

	centre.kill()
	if err := rest(ctx, away); err != nil {
		return err
	}
	again := time.Now()
	if centre, _, err = startGate(ctx, dir, address); err != nil {
		return err
	}
	if _, err := centre.ask(up); err != nil {
		return err
	}
	back := time.Since(again)
	if now, err = centre.ask("cpu"); err != nil {
		return err
	}
	// Their schedule has 15 % of them in the busiest second after 10 s, as a test of
	// the agent says; a slow machine gathers some more.
	if away >= 10*time.Second && now.Busiest > n/3 {
		return fmt.Errorf("a herd: %d of %d agents came back in one second after %v", now.Busiest, n, away)
	}
	fmt.Printf("kill -9, %v away: all %d back %.1f s after the start (busiest second: %d connections, CPU %.1f s)\n", away, n, back.Seconds(), now.Busiest, now.CPU.Seconds())
	if err := rest(ctx, settle); err != nil {
		return err
	}
	if now, err = centre.ask("state"); err != nil {
		return err
	}
	fmt.Printf("RSS %d MiB: %.1f KiB for each, %.1f KiB after a collection\n", now.RSS>>20, perAgent(now.RSS-before.RSS, n), perAgent(now.RSSAfterGC-before.RSSAfterGC, n))
	if cut == 0 {
		return nil
	}
	return partition(ctx, centre, up, cut)
}

// partition takes the network away: what is sent is lost, and nobody is told. It
// needs to be root in a network of its own: unshare -n.
func partition(ctx context.Context, centre *child, up string, cut time.Duration) error {
	network := func(state string) error {
		if out, err := exec.CommandContext(ctx, "ip", "link", "set", "lo", state).CombinedOutput(); err != nil {
			return fmt.Errorf("ip link set lo %s: %w: %s", state, err, out)
		}
		return nil
	}
	if err := network("down"); err != nil {
		return err
	}
	if err := rest(ctx, cut); err != nil {
		return err
	}
	during, err := centre.ask("state")
	if err != nil {
		return err
	}
	if _, err := centre.ask("up 0"); err != nil { // to count from there
		return err
	}
	healed := time.Now()
	if err := network("up"); err != nil {
		return err
	}
	if _, err := centre.ask(up); err != nil {
		return err
	}
	back := time.Since(healed)
	now, err := centre.ask("cpu")
	if err != nil {
		return err
	}
	fmt.Printf("nothing passed for %v, %d were up at its end: all back %.1f s after (busiest second since the start: %d connections)\n", cut, during.Up, back.Seconds(), now.Busiest)
	return nil
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func startGate(ctx context.Context, dir, address string) (*child, string, error) {
	c, err := startChild(ctx, "-role=gate", "-dir="+dir, "-centre="+address)
	if err != nil {
		return nil, "", err
	}
	got, err := c.line()
	if err != nil {
		c.kill()
	}
	return c, got, err
}

// runGate is a centre reduced to its agents, who join by token. It leaves pin
// and token in the directory.
func runGate(dir, address string) error {
	raiseFileLimit()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rows, err := auditsqlite.Open(ctx, dir)
	if err != nil {
		return err
	}
	defer rows.Close()
	record, err := audit.Open(ctx, audit.Config{Store: rows})
	if err != nil {
		return err
	}
	ca, err := autotls.OpenCA(dir, time.Now())
	if err != nil {
		return err
	}
	own, err := autotls.NewServer(ca, nil, nil)
	if err != nil {
		return err
	}
	f := fleet.New(fleet.Config{Store: noStore{}})
	links := agentlink.New(agentlink.Config{Fleet: f})
	gate, err := join.Open(join.Config{Dir: filepath.Join(dir, "join"), Record: record, Drop: links.Drop})
	if err != nil {
		return err
	}
	if err := invite(ctx, gate, ca, dir); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	counted := &counter{Listener: ln}
	mux := http.NewServeMux()
	mux.Handle(join.Path, gate)
	mux.HandleFunc(agentlink.Path, func(w http.ResponseWriter, r *http.Request) {
		if _, shown, err := gate.Admit(r); err != nil || !shown {
			http.Error(w, fmt.Sprint("no: ", err), http.StatusUnauthorized)
			return
		}
		links.ServeHTTP(w, r)
	})
	hs := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{
			ClientAuth: tls.RequestClientCert, NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own.Certificate() },
		},
	}
	var running errgroup.Group
	running.Go(func() error { return f.Run(ctx) })
	running.Go(func() error { return gate.Run(ctx) })
	running.Go(func() error {
		if err := hs.ServeTLS(counted, "", ""); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	seen := &census{fleet: f, sub: f.Subscribe(), up: map[ops.InstanceID]bool{}}
	defer seen.sub.Close()
	fmt.Println(ln.Addr())
	if err := answerQuestions(f, seen, counted.busiest); err != nil {
		return err
	}
	cancel()
	return errors.Join(links.Close(), hs.Close(), running.Wait())
}

// invite makes the token on the first start.
func invite(ctx context.Context, gate *join.Gate, ca *autotls.CA, dir string) error {
	if len(gate.Tokens()) > 0 {
		return nil
	}
	secret, _, err := gate.Create(ctx, "bench", join.TokenRequest{Project: "bench", Service: "agents", Uses: -1, For: -1, CIDRs: []string{"127.0.0.0/8"}})
	return errors.Join(err, os.WriteFile(filepath.Join(dir, "token"), []byte(secret), 0o600), os.WriteFile(filepath.Join(dir, "pin"), []byte(ca.Pin()), 0o600))
}

// counter counts connections by the second in which they came.
type counter struct {
	net.Listener
	mu     sync.Mutex // guards all below
	second int64
	now    int
	most   int
}

func (c *counter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := time.Now().Unix(); s != c.second {
		c.second, c.now = s, 0
	}
	c.now++
	c.most = max(c.most, c.now)
	return conn, err
}

func (c *counter) busiest() int { c.mu.Lock(); defer c.mu.Unlock(); return c.most }

// runJoiners is n real agents in one process, until it is killed or its parent
// ends.
func runJoiners(center string, n int, dir string) error {
	raiseFileLimit()
	pin, err := os.ReadFile(filepath.Join(dir, "pin"))
	if err != nil {
		return err
	}
	var logger *slog.Logger
	if os.Getenv("BENCH_VERBOSE") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	for range n {
		if _, err := agent.Start(agent.Config{
			Center: "https://" + center, Project: "bench", Service: "agents", TokenFile: filepath.Join(dir, "token"), CAPin: strings.TrimSpace(string(pin)),
			HeapTypes: "off", Controls: "off", Logger: logger,
		}); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
