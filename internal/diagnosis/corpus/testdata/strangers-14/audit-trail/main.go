package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync/atomic"
	"time"
)

// collector ships each record to the log host and waits until it is stored there.
type collector struct {
	conn net.Conn
	acks *bufio.Reader
}

func dialCollector(addr string) (*collector, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &collector{conn: conn, acks: bufio.NewReader(conn)}, nil
}

func (c *collector) Write(p []byte) (int, error) {
	if _, err := c.conn.Write(p); err != nil { // want: log-contention
		return 0, err
	}
	if _, err := c.acks.ReadByte(); err != nil { // want: log-contention
		return 0, err
	}
	return len(p), nil
}

func logHost() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewScanner(conn)
				for in.Scan() {
					time.Sleep(1500 * time.Microsecond)
					if _, err := conn.Write([]byte{'+'}); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

type transfer struct {
	From   int   `json:"from"`
	To     int   `json:"to"`
	Amount int64 `json:"amount"`
}

type accounts struct {
	balance []atomic.Int64
}

func (a *accounts) move(t transfer) bool {
	for {
		have := a.balance[t.From].Load()
		if have < t.Amount {
			return false
		}
		if a.balance[t.From].CompareAndSwap(have, have-t.Amount) {
			a.balance[t.To].Add(t.Amount)
			return true
		}
	}
}

type transferAPI struct {
	log      *slog.Logger
	accounts *accounts
}

func (a *transferAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l := a.log.With("remote", r.RemoteAddr)
	l.Info("transfer requested", "path", r.URL.Path) // want: log-contention
	var t transfer
	if err := json.NewDecoder(r.Body).Decode(&t); err != nil {
		l.Warn("bad body", "err", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	l.Info("transfer accepted", "from", t.From, "to", t.To, "amount", t.Amount) // want: log-contention
	ok := a.accounts.move(t)
	l.Info("transfer booked", "ok", ok) // want: log-contention
	if !ok {
		http.Error(w, "not enough", http.StatusPaymentRequired)
		return
	}
	fmt.Fprintln(w, "ok")
}

func players(url string, n, accounts int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for range n {
		go func() {
			for {
				body, _ := json.Marshal(transfer{From: rand.IntN(accounts), To: rand.IntN(accounts), Amount: rand.Int64N(50)})
				resp, err := client.Post(url, "application/json", bytes.NewReader(body))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				time.Sleep(time.Duration(10+rand.IntN(20)) * time.Millisecond)
			}
		}()
	}
}

func main() {
	out, err := dialCollector(logHost())
	if err != nil {
		log.Fatal(err)
	}
	acc := &accounts{balance: make([]atomic.Int64, 5000)}
	for i := range acc.balance {
		acc.balance[i].Store(1_000_000)
	}
	api := &transferAPI{log: slog.New(slog.NewJSONHandler(out, nil)), accounts: acc} // want: log-contention
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, api)) }()
	players("http://"+ln.Addr().String(), 70, len(acc.balance))
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
