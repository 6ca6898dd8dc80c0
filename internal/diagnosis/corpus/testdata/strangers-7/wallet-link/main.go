// Command wallet-link is the game's side of the wallet protocol.
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
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type request struct {
	Op     string `json:"op"`
	Player int    `json:"player"`
	Amount int64  `json:"amount,omitempty"`
}

type reply struct {
	Balance int64  `json:"balance"`
	Err     string `json:"err,omitempty"`
}

// Link is a connection to the wallet; it may be used by many.
type Link struct {
	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
	out  *json.Encoder
}

func Dial(addr string) (*Link, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Link{conn: c, in: bufio.NewReader(c), out: json.NewEncoder(c)}, nil
}

func exchange[Q, A any](l *Link, q Q) (a A, err error) {
	l.mu.Lock() // want: lock-held-across-io
	defer l.mu.Unlock()
	if err = l.out.Encode(q); err != nil {
		return a, err
	}
	line, err := l.in.ReadBytes('\n') // want: lock-held-across-io
	if err != nil {
		return a, err
	}
	err = json.Unmarshal(line, &a)
	return a, err
}

func (l *Link) Debit(player int, amount int64) (int64, error) {
	r, err := exchange[request, reply](l, request{Op: "debit", Player: player, Amount: amount})
	if err == nil && r.Err != "" {
		err = errors.New(r.Err)
	}
	return r.Balance, err
}

func walletServer(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			dec, enc := json.NewDecoder(c), json.NewEncoder(c)
			balance := int64(1 << 40)
			for {
				var q request
				if dec.Decode(&q) != nil {
					return
				}
				time.Sleep(9 * time.Millisecond)
				balance -= q.Amount
				if enc.Encode(reply{Balance: balance}) != nil {
					return
				}
			}
		}()
	}
}

type Spin struct{ wallet *Link }

func (s *Spin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := s.wallet.Debit(rand.IntN(1000), 10)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintf(w, `{"balance":%d,"reels":[%d,%d,%d]}`, b, rand.IntN(9), rand.IntN(9), rand.IntN(9))
}

func main() {
	ctx, _, done := start()
	defer done()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go walletServer(ln)
	link, err := Dial(ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	url := serve(&Spin{link})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for range 30 {
		go func() {
			for ctx.Err() == nil {
				if resp, err := client.Get(url); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String() + "/"
}

// start gives the context of the process and joins the operations centre.
func start() (context.Context, *agent.Agent, func()) {
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
