// Command ok-event-tail follows the event streams of the game servers.
package main

import (
	"context"
	"encoding/json"
	"errors"
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

type Event struct {
	Room int    `json:"room"`
	Kind string `json:"kind"`
}

type Stream interface {
	Next() (Event, error)
}

type lineStream struct{ dec *json.Decoder }

func (s lineStream) Next() (e Event, err error) {
	err = s.dec.Decode(&e)
	return e, err
}

type Tail struct {
	http *http.Client
	seen atomic.Int64
}

func (t *Tail) open(ctx context.Context, url string) (Stream, io.Closer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	return lineStream{json.NewDecoder(resp.Body)}, resp.Body, nil
}

func (t *Tail) follow(ctx context.Context, url string) error {
	s, c, err := t.open(ctx, url)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		if _, err := s.Next(); err != nil {
			return err
		}
		t.seen.Add(1)
	}
}

func main() {
	ctx, _, done := boot()
	defer done()
	url := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(3 * time.Second)
		defer tick.Stop()
		rc, enc := http.NewResponseController(w), json.NewEncoder(w)
		for {
			if err := errors.Join(enc.Encode(Event{rand.IntN(100), "round"}), rc.Flush()); err != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
			}
		}
	}))
	t := &Tail{http: &http.Client{}}
	for range 80 {
		go func() {
			for ctx.Err() == nil {
				if err := t.follow(ctx, url); err != nil && ctx.Err() == nil {
					log.Print(err)
					time.Sleep(time.Second)
				}
			}
		}()
	}
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
