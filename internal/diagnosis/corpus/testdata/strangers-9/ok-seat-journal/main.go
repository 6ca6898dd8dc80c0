// Command ok-seat-journal journals the moves of a room.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Move struct {
	Room, Seat int
	Card       string
}

type Journal interface {
	Write(Move) error
}

// buffered collects lines in memory; a flush every second takes them to the file.
type buffered struct {
	mu  sync.Mutex
	cur *bytes.Buffer
	old *bytes.Buffer
}

func (b *buffered) Write(m Move) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, err := fmt.Fprintf(b.cur, "%d %d %s\n", m.Room, m.Seat, m.Card)
	return err
}

func (b *buffered) swap() *bytes.Buffer {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cur, b.old = b.old, b.cur
	return b.old
}

func (b *buffered) flushTo(w io.Writer) error {
	buf := b.swap()
	_, err := buf.WriteTo(w)
	buf.Reset()
	return err
}

func (b *buffered) run(ctx context.Context, w io.Writer) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := b.flushTo(w); err != nil {
				log.Print(err)
			}
		}
	}
}

func main() {
	ctx, _, done := boot()
	defer done()
	f, err := os.CreateTemp("", "moves")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	b := &buffered{cur: new(bytes.Buffer), old: new(bytes.Buffer)}
	go b.run(ctx, f)
	var j Journal = b
	url := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := j.Write(Move{rand.IntN(50), rand.IntN(6), "Q"}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	players(ctx, 30, 30*time.Millisecond, func(int) error { return call(c, url) })
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
