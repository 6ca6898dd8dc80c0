// Command ok-password-gate checks passwords at the login.
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
	"golang.org/x/crypto/bcrypt"
)

type Accounts interface {
	Hash(nick string) ([]byte, bool)
}

type memory map[string][]byte

func (m memory) Hash(nick string) ([]byte, bool) { h, ok := m[nick]; return h, ok }

// Door lets in who knows the password, at most cap(slots) checks at a time.
type Door struct {
	acc   Accounts
	slots chan struct{}
	in    atomic.Int64
}

func (d *Door) Enter(ctx context.Context, nick, pass string) error {
	h, ok := d.acc.Hash(nick)
	if !ok {
		return errors.New("no such account")
	}
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.slots }()
	if err := bcrypt.CompareHashAndPassword(h, []byte(pass)); err != nil {
		return err
	}
	d.in.Add(1)
	return nil
}

func main() {
	ctx, _, done := boot()
	defer done()
	h, err := bcrypt.GenerateFromPassword([]byte("correct horse"), 10)
	if err != nil {
		log.Fatal(err)
	}
	d := &Door{acc: memory{"p": h}, slots: make(chan struct{}, 4)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		if err := d.Enter(r.Context(), "p", "correct horse"); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
		}
	})
	mux.HandleFunc("GET /lobby", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]int64{"online": d.in.Load()})
	})
	url := serve(mux)
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	players(ctx, 1, 900*time.Millisecond, func(int) error { return call(c, url+"/login") })
	players(ctx, 20, 100*time.Millisecond, func(int) error { return call(c, url+"/lobby") })
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
