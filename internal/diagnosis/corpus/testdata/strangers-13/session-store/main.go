// session-store keeps the sessions of logged-in players in a remote key-value
// service that speaks a line protocol.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"time"
)

// Pool hands out a fixed number of reusable resources.
type Pool[T any] struct {
	free chan T
}

func NewPool[T any](size int, open func() (T, error)) (*Pool[T], error) {
	p := &Pool[T]{free: make(chan T, size)}
	for range size {
		v, err := open()
		if err != nil {
			return nil, err
		}
		p.free <- v
	}
	return p, nil
}

func (p *Pool[T]) With(ctx context.Context, f func(T) error) error {
	select { // want: pool-exhausted
	case v := <-p.free: // want: pool-exhausted
		defer func() { p.free <- v }()
		return f(v)
	case <-ctx.Done():
		return fmt.Errorf("pool: %w", ctx.Err())
	}
}

type kvConn struct {
	c  net.Conn
	br *bufio.Reader
}

func dialKV(addr string) func() (*kvConn, error) {
	return func() (*kvConn, error) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		return &kvConn{c: c, br: bufio.NewReader(c)}, nil
	}
}

func (k *kvConn) do(cmd string, args ...string) (string, error) {
	if _, err := fmt.Fprintf(k.c, "%s %s\n", cmd, strings.Join(args, " ")); err != nil {
		return "", err
	}
	line, err := k.br.ReadString('\n')
	return strings.TrimSpace(line), err
}

type Sessions struct{ pool *Pool[*kvConn] }

func (s *Sessions) Touch(ctx context.Context, token string) (player string, err error) {
	err = s.pool.With(ctx, func(k *kvConn) error { // want: pool-exhausted
		player, err = k.do("GETEX", token, "EX", "1800")
		return err
	})
	return player, err
}

func serveKV(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			sc := bufio.NewScanner(c)
			for sc.Scan() {
				f := strings.Fields(sc.Text())
				time.Sleep(time.Duration(6+rand.IntN(5)) * time.Millisecond)
				fmt.Fprintf(c, "player-%s\n", f[1])
			}
		}()
	}
}

func auth(s *Sessions, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 4*time.Second)
		defer cancel()
		player, err := s.Touch(ctx, r.Header.Get("X-Session"))
		if err != nil {
			http.Error(w, "session store unavailable", http.StatusServiceUnavailable)
			return
		}
		r.Header.Set("X-Player", player)
		next(w, r)
	}
}

func listen() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return ln
}

func main() {
	kv := listen()
	go serveKV(kv)
	pool, err := NewPool(3, dialKV(kv.Addr().String())) // want: pool-exhausted
	if err != nil {
		log.Fatal(err)
	}
	sessions := &Sessions{pool: pool}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /balance", auth(sessions, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"player":%q,"balance":1200}`, r.Header.Get("X-Player"))
	}))
	mux.HandleFunc("GET /history", auth(sessions, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"player":%q,"rounds":[]}`, r.Header.Get("X-Player"))
	}))
	front := listen()
	go func() { log.Fatal(http.Serve(front, mux)) }()

	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 150}, Timeout: 8 * time.Second}
	for i := range 150 {
		path := []string{"balance", "history"}[i%2]
		go func() {
			for {
				req, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s/%s", front.Addr(), path), nil)
				req.Header.Set("X-Session", fmt.Sprintf("s%06d", i))
				if resp, err := hc.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(20+rand.IntN(60)) * time.Millisecond)
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
