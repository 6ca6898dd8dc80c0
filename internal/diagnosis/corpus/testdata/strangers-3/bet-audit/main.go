// Command bet-audit accepts bets and writes an audit line for each step.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

// shipper sends each line to the audit host and waits until it is stored.
type shipper struct {
	conn net.Conn
	ack  *bufio.Reader
}

func (s *shipper) Write(p []byte) (int, error) {
	n, err := s.conn.Write(p) // want: log-contention
	if err != nil {
		return n, err
	}
	if _, err := s.ack.ReadByte(); err != nil { // want: log-contention
		return n, err
	}
	return n, nil
}

type bookie struct {
	log *slog.Logger
	seq atomic.Int64
}

func (b *bookie) place(ctx context.Context, player, stake int) int64 {
	id := b.seq.Add(1)
	lg := b.log.With("bet", id, "player", player)
	lg.InfoContext(ctx, "received", "stake", stake) // want: log-contention
	odds := 1 + rand.Float64()*4
	lg.InfoContext(ctx, "priced", "odds", odds)                    // want: log-contention
	lg.InfoContext(ctx, "accepted", "payout", float64(stake)*odds) // want: log-contention
	return id
}

func (b *bookie) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, b.place(r.Context(), rand.IntN(5000), 10+rand.IntN(90)))
}

func auditHost() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for sc := bufio.NewScanner(c); sc.Scan(); {
					time.Sleep(3 * time.Millisecond)
					c.Write([]byte{'.'})
				}
			}()
		}
	}()
	return l.Addr().String()
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(1)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	c, err := net.Dial("tcp", auditHost())
	if err != nil {
		log.Fatal(err)
	}
	b := &bookie{log: slog.New(slog.NewJSONHandler(&shipper{c, bufio.NewReader(c)}, nil))}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, b)

	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for range 48 {
		go func() {
			for {
				res, err := hc.Post("http://"+l.Addr().String(), "", nil)
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(rand.N(80 * time.Millisecond))
			}
		}()
	}
	select {}
}
