package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

type Gift struct {
	From, To int64
	SKU      string
}

// Courier talks to the platform's gift API, which allows a fixed number of
// calls per second for every title.
type Courier struct {
	base  string
	http  *http.Client
	quota *rate.Limiter
	sent  atomic.Int64
}

func (c *Courier) Send(ctx context.Context, g Gift) error {
	if err := c.quota.Wait(ctx); err != nil {
		return fmt.Errorf("gift %d: %w", g.To, err)
	}
	body, err := json.Marshal(g)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/gifts", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	c.sent.Add(1)
	return err
}

type Campaign struct {
	courier *Courier
	sku     string
}

// Deliver walks through its share of the recipients at the allowed pace.
func (c *Campaign) Deliver(ctx context.Context) {
	for {
		g := Gift{From: 1, To: rand.Int64N(1e9), SKU: c.sku}
		if err := c.courier.Send(ctx, g); err != nil {
			log.Printf("deliver: %v", err)
			time.Sleep(time.Second)
		}
	}
}

func main() {
	// agent-hook
	if len(os.Args) > 1 && os.Args[1] == "downstream" {
		runPlatform()
		return
	}
	startDiagnostics()
	addr, err := launch("downstream")
	if err != nil {
		log.Fatal(err)
	}
	courier := &Courier{
		base:  "http://" + addr,
		http:  &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}},
		quota: rate.NewLimiter(50, 10),
	}
	for i := range 24 {
		go (&Campaign{courier: courier, sku: fmt.Sprintf("anniversary-%d", i)}).Deliver(context.Background())
	}
	awaitShutdown()
}

func runPlatform() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	announce(ln.Addr().String())
	mux := http.NewServeMux()
	mux.HandleFunc("POST /gifts", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(2 * time.Millisecond)
		w.WriteHeader(http.StatusAccepted)
	})
	log.Fatal(http.Serve(ln, mux))
}

func startDiagnostics() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	go func() {
		if err := http.ListenAndServe(addr, nil); err != nil {
			log.Printf("diagnostics listener: %v", err)
		}
	}()
}

func awaitShutdown() {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, os.Interrupt)
	<-sig
	log.Print("shutting down")
}

var children []*exec.Cmd

// launch starts this binary in another role and returns the first line the
// child prints, normally the address it listens on.
func launch(args ...string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(exe, args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "OPS_CENTER") && !strings.HasPrefix(kv, "PPROF_ADDR=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Stderr = os.Stderr
	if _, err = cmd.StdinPipe(); err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	children = append(children, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(line), err
}

// announce tells the parent where we are and ties our lifetime to it.
func announce(line string) {
	fmt.Println(line)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
}
