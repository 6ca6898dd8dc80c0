// Command push-gateway sends push messages to the device vendors.
package main

import (
	"bytes"
	"context"
	"encoding/json"
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

type Message struct {
	Device string `json:"device"`
	Text   string `json:"text"`
}

type Vendor interface {
	Push(ctx context.Context, m Message) error
}

type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

type statusError struct{ code int }

func (e statusError) Error() string { return "vendor: " + http.StatusText(e.code) }

type checked struct{ next Doer }

// Do turns the answers that are no success into errors.
func (c checked) Do(r *http.Request) (*http.Response, error) {
	resp, err := c.next.Do(r) // want: response-body-leak
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, statusError{resp.StatusCode} // want: response-body-leak
	}
	return resp, nil
}

type httpVendor struct {
	url string
	d   Doer
}

func (v *httpVendor) Push(ctx context.Context, m Message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	resp, err := v.d.Do(req) // want: response-body-leak
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

type Outbox struct {
	vendor Vendor
	failed atomic.Int64
}

func (o *Outbox) Send(ctx context.Context, m Message) {
	if err := o.vendor.Push(ctx, m); err != nil {
		o.failed.Add(1)
	}
}

func main() {
	ctx, _, done := boot()
	defer done()
	url := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if rand.IntN(4) == 0 {
			w.WriteHeader(http.StatusGone)
			_, _ = w.Write(bytes.Repeat([]byte("device is not registered\n"), 400))
			return
		}
		fmt.Fprintln(w, "queued")
	}))
	d := checked{&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	o := &Outbox{vendor: &httpVendor{url: url, d: d}}
	players(ctx, 10, 100*time.Millisecond, func(i int) error {
		o.Send(context.WithoutCancel(ctx), Message{Device: fmt.Sprint("d", i), Text: "your turn"})
		return nil
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
