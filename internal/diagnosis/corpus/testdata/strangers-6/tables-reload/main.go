// Command tables-reload answers bet limits per table out of a local copy of
// the limits service.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Limit struct {
	Table    string
	Min, Max int64
}

// Source gives the current value of a key.
type Source[V any] interface {
	Lookup(ctx context.Context, key string) (V, error)
}

// Mirror is a local copy of what a source says.
type Mirror[V any] struct {
	mu   sync.RWMutex
	vals map[string]V
	src  Source[V]
}

func NewMirror[V any](src Source[V], keys ...string) *Mirror[V] {
	m := &Mirror[V]{vals: make(map[string]V, len(keys)), src: src}
	for _, k := range keys {
		var zero V
		m.vals[k] = zero
	}
	return m
}

func (m *Mirror[V]) Get(key string) (V, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	v, ok := m.vals[key]
	return v, ok
}

// Refresh asks the source for every key.
func (m *Mirror[V]) Refresh(ctx context.Context) error {
	m.mu.Lock() // want: lock-held-across-io
	defer m.mu.Unlock()
	var errs []error
	for k := range m.vals {
		v, err := m.src.Lookup(ctx, k) // want: lock-held-across-io
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m.vals[k] = v
	}
	return errors.Join(errs...)
}

func (m *Mirror[V]) Keep(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if err := m.Refresh(ctx); err != nil && ctx.Err() == nil {
			log.Printf("refresh: %v", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// limitsClient speaks the line protocol of the limits service.
type limitsClient struct {
	conn net.Conn
	r    *bufio.Reader
}

func dialLimits(addr string) (*limitsClient, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &limitsClient{conn: c, r: bufio.NewReader(c)}, nil
}

func (c *limitsClient) roundTrip(line string) (string, error) {
	if _, err := io.WriteString(c.conn, line+"\n"); err != nil {
		return "", err
	}
	s, err := c.r.ReadString('\n')
	return strings.TrimSpace(s), err
}

func (c *limitsClient) Lookup(ctx context.Context, key string) (l Limit, err error) {
	if err = ctx.Err(); err != nil {
		return l, err
	}
	reply, err := c.roundTrip("LIMIT " + key)
	if err != nil {
		return l, fmt.Errorf("limit of %s: %w", key, err)
	}
	_, err = fmt.Sscanf(reply, "%s %d %d", &l.Table, &l.Min, &l.Max)
	return l, err
}

// serveLimits is the limits service, a process of its own.
func serveLimits() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ln.Addr())
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer os.Exit(0)
			for sc := bufio.NewScanner(c); sc.Scan(); {
				time.Sleep(12 * time.Millisecond)
				fmt.Fprintf(c, "%s %d %d\n", strings.TrimPrefix(sc.Text(), "LIMIT "), 10, 5000+rand.IntN(100))
			}
		}()
	}
}

type betHandler struct{ limits *Mirror[Limit] }

func (h betHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l, ok := h.limits.Get(r.URL.Query().Get("table"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	fmt.Fprintf(w, "%d-%d", l.Min, l.Max)
}

func main() {
	if os.Getenv("LIMITS_SERVICE") != "" {
		serveLimits()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	defer a.Close()

	peer, err := startChild("LIMITS_SERVICE=1")
	if err != nil {
		log.Fatal(err)
	}
	c, err := dialLimits(peer)
	if err != nil {
		log.Fatal(err)
	}
	var tables []string
	for i := range 40 {
		tables = append(tables, fmt.Sprintf("table-%02d", i))
	}
	mirror := NewMirror[Limit](c, tables...)
	go mirror.Keep(ctx, 1200*time.Millisecond)

	srv := &http.Server{Handler: betHandler{mirror}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = srv.Serve(ln) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 80}}
	for range 60 {
		go func() {
			for ctx.Err() == nil {
				resp, err := client.Get("http://" + ln.Addr().String() + "/?table=" + tables[rand.IntN(len(tables))])
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(20+rand.IntN(40)) * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
	_ = srv.Close()
}

func startChild(env string) (string, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	_, err = os.StartProcess(os.Args[0], os.Args[:1], &os.ProcAttr{
		Env:   append(os.Environ(), env, "OPS_AGENT=off", "PPROF_ADDR="),
		Files: []*os.File{nil, w, os.Stderr},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	w.Close()
	if err != nil {
		return "", err
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	return strings.TrimSpace(line), err
}
