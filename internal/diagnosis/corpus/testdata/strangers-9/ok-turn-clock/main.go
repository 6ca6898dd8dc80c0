// Command ok-turn-clock gives each player a time to think.
package main

import (
	"context"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Table struct {
	mu    sync.Mutex
	turn  int
	clock *time.Timer
	late  *atomic.Int64
}

const think = 15 * time.Second

// Start arms the clock of the first turn.
func (t *Table) Start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clock = time.AfterFunc(think, t.timeout)
}

func (t *Table) timeout() {
	t.late.Add(1)
	t.Play()
}

// Play ends the turn and gives the next player its time.
func (t *Table) Play() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clock.Stop()
	t.turn++
	t.clock = time.AfterFunc(think, t.timeout)
}

type Floor struct{ tables []*Table }

func (f *Floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("from"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for i := range 10 {
		f.tables[(n+i)%len(f.tables)].Play()
	}
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	ctx, _, done := boot()
	defer done()
	f, late := &Floor{}, new(atomic.Int64)
	for range 3000 {
		t := &Table{late: late}
		t.Start()
		f.tables = append(f.tables, t)
	}
	url := serve(f)
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	players(ctx, 20, 40*time.Millisecond, func(int) error {
		return call(c, url+"/?from="+strconv.Itoa(rand.IntN(3000)))
	})
	<-ctx.Done()
}

func boot() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
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
	return ctx, a, func() { a.Close(); stop() }
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// players runs n players that each call f and then wait.
func players(ctx context.Context, n int, pause time.Duration, f func(i int) error) {
	for i := range n {
		go func() {
			time.Sleep(time.Duration(rand.Int64N(int64(pause) + 1)))
			for ctx.Err() == nil {
				_ = f(i)
				time.Sleep(pause)
			}
		}()
	}
}

func call(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
