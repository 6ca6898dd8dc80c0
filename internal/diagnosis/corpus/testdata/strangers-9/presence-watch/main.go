// Command presence-watch tells gateway connections who of their friends is online.
package main

import (
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
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Event struct {
	Player int
	Online bool
}

// Broker passes events of a topic to its subscribers.
type Broker[T any] struct {
	mu   sync.Mutex
	next int
	subs map[string]map[int]chan T
}

func NewBroker[T any]() *Broker[T] { return &Broker[T]{subs: map[string]map[int]chan T{}} }

func (b *Broker[T]) Subscribe(topic string) (<-chan T, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	id, ch := b.next, make(chan T, 8)
	if b.subs[topic] == nil {
		b.subs[topic] = map[int]chan T{}
	}
	b.subs[topic][id] = ch
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subs[topic], id) // want: goroutine-leak
	}
}

func (b *Broker[T]) Publish(topic string, v T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ch := range b.subs[topic] {
		select {
		case ch <- v:
		default:
		}
	}
}

type Source interface {
	Subscribe(topic string) (<-chan Event, func())
}

type Gateway struct {
	presence Source
	sent     atomic.Int64
}

// follow hands each event of the topic to f until the subscription ends.
func follow(ch <-chan Event, f func(Event)) {
	for ev := range ch { // want: goroutine-leak
		f(ev)
	}
}

func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ch, cancel := g.presence.Subscribe("guild-" + r.URL.Query().Get("guild"))
	defer cancel()
	var seen atomic.Int64
	go follow(ch, func(Event) { // want: goroutine-leak
		seen.Add(1)
		g.sent.Add(1)
	})
	select {
	case <-r.Context().Done():
	case <-time.After(200 * time.Millisecond):
	}
	fmt.Fprintln(w, seen.Load())
}

func main() {
	ctx, _, done := boot()
	defer done()
	b := NewBroker[Event]()
	url := serve(&Gateway{presence: b})
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			b.Publish("guild-"+strconv.Itoa(i%20), Event{Player: i, Online: i%2 == 0})
			time.Sleep(5 * time.Millisecond)
		}
	}()
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	players(ctx, 20, 60*time.Millisecond, func(i int) error { return call(c, url+"/?guild="+strconv.Itoa(i)) })
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
