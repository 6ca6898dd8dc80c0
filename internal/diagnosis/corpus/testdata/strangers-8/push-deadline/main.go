// Command push-deadline sends notifications to the players' devices.
package main

import (
	"context"
	"encoding/json"
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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// ---- deadline helper ----

type outcome[T any] struct {
	v   T
	err error
}

// Within gives f's value, or an error when d has passed.
func Within[T any](ctx context.Context, d time.Duration, f func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	done := make(chan outcome[T]) // want: goroutine-leak
	go func() {                   // want: goroutine-leak
		v, err := f()
		done <- outcome[T]{v, err} // want: goroutine-leak
	}()
	select {
	case o := <-done:
		return o.v, o.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

// ---- provider ----

type Note struct {
	Device string `json:"device"`
	Title  string `json:"title"`
}

type Provider interface {
	Push(n Note) (string, error)
}

type webProvider struct {
	url    string
	client *http.Client
}

func (p webProvider) Push(n Note) (string, error) {
	resp, err := p.client.Get(p.url + "/push?device=" + n.Device)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var v struct{ ID string }
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return "", err
	}
	return v.ID, nil
}

// ---- service ----

type Notifier struct {
	p          Provider
	sent, late atomic.Int64
}

func (n *Notifier) notify(ctx context.Context, note Note) error {
	_, err := Within(ctx, 150*time.Millisecond, func() (string, error) { return n.p.Push(note) })
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		n.late.Add(1)
		return nil
	case err != nil:
		return fmt.Errorf("push to %s: %w", note.Device, err)
	}
	n.sent.Add(1)
	return nil
}

func (n *Notifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := n.notify(r.Context(), Note{Device: r.FormValue("d"), Title: "Your season has begun"}); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// drive lets n clients call url, each pausing between its calls.
func drive(ctx context.Context, n int, pause time.Duration, url func() string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for range n {
		go func() {
			for ctx.Err() == nil {
				if resp, err := client.Get(url()); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(pause)
			}
		}()
	}
}

// observe serves the profiles and joins the centre.
func observe() *agent.Agent {
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
	return a
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	a := observe()
	defer a.Close()

	provider := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := 20 * time.Millisecond
		if rand.IntN(12) == 0 {
			d = 300 * time.Millisecond
		}
		time.Sleep(d)
		fmt.Fprintf(w, `{"id":"%x"}`, rand.Uint64())
	}))
	n := &Notifier{p: webProvider{provider, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}}
	url := serve(n)
	drive(ctx, 24, 20*time.Millisecond, func() string { return fmt.Sprintf("%s/?d=%d", url, rand.IntN(1e6)) })
	<-ctx.Done()
}
