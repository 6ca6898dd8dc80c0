// Command session-audit keeps player sessions and reports their changes to the audit service.
package main

import (
	"bufio"
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
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Session struct {
	Player int       `json:"player"`
	Device string    `json:"device"`
	Seen   time.Time `json:"seen"`
}

type Listener func(key string, s Session) error

// Table is a map with listeners to its changes.
type Table struct {
	mu        sync.Mutex
	rows      map[string]Session
	listeners []Listener
}

func (t *Table) OnChange(l Listener) { t.listeners = append(t.listeners, l) }

func (t *Table) emit(key string, s Session) (err error) {
	for _, l := range t.listeners {
		err = errors.Join(err, l(key, s)) // want: lock-held-across-io
	}
	return err
}

func (t *Table) Update(key string, f func(Session) Session) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := f(t.rows[key])
	t.rows[key] = s
	return t.emit(key, s) // want: lock-held-across-io
}

func (t *Table) Get(key string) (Session, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.rows[key]
	return s, ok
}

// Audit writes lines to the audit service and reads its receipt for each.
type Audit struct {
	conn net.Conn
	rd   *bufio.Reader
}

func (a *Audit) Record(key string, s Session) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if _, err := a.conn.Write(append(b, '\n')); err != nil {
		return err
	}
	_, err = a.rd.ReadString('\n') // want: lock-held-across-io
	return err
}

func auditService() net.Addr {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				for sc := bufio.NewScanner(c); sc.Scan(); {
					time.Sleep(6 * time.Millisecond)
					fmt.Fprintln(c, "ok")
				}
			}()
		}
	}()
	return ln.Addr()
}

func main() {
	ctx, _, done := boot()
	defer done()
	conn, err := net.Dial("tcp", auditService().String())
	if err != nil {
		log.Fatal(err)
	}
	audit := &Audit{conn: conn, rd: bufio.NewReader(conn)}
	t := &Table{rows: map[string]Session{}}
	t.OnChange(audit.Record)
	url := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.URL.Query().Get("key")
		if s, ok := t.Get(key); ok && rand.IntN(2) == 0 {
			_ = json.NewEncoder(w).Encode(s)
			return
		}
		if err := t.Update(key, func(s Session) Session {
			s.Seen = time.Now()
			return s
		}); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	}))
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	players(ctx, 50, 20*time.Millisecond, func(i int) error { return call(c, url+"/?key="+strconv.Itoa(i)) })
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
