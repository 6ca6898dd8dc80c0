package main

import (
	"bufio"
	"context"
	"errors"
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

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

type payout struct {
	ref   string
	cents int
}

type link struct {
	name  string
	addr  string
	quota *rate.Limiter
	jobs  chan payout
	conn  net.Conn
	rd    *bufio.Reader
}

func newLink(name, addr string, perSecond float64) *link {
	return &link{name: name, addr: addr, quota: rate.NewLimiter(rate.Limit(perSecond), 5), jobs: make(chan payout, 32)}
}

func (l *link) drop() {
	if l.conn != nil {
		l.conn.Close()
		l.conn, l.rd = nil, nil
	}
}

func (l *link) connect(ctx context.Context) error {
	if l.conn != nil {
		return nil
	}
	const ceiling = 3 * time.Second
	pause := 100 * time.Millisecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		var d net.Dialer
		dctx, cancel := context.WithTimeout(ctx, time.Second)
		c, err := d.DialContext(dctx, "tcp", l.addr)
		cancel()
		if err == nil {
			l.conn, l.rd = c, bufio.NewReader(c)
			return nil
		}
		timer.Reset(pause + rand.N(pause/2))
		pause = min(pause*2, ceiling)
	}
}

var errRefused = errors.New("refused")

func (l *link) send(p payout) error {
	l.conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := fmt.Fprintf(l.conn, "PAY %s %d\n", p.ref, p.cents); err != nil {
		return err
	}
	line, err := l.rd.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "OK") {
		return errRefused
	}
	return nil
}

func (l *link) run(ctx context.Context) error {
	defer l.drop()
	for {
		if err := l.connect(ctx); err != nil {
			return err
		}
		var p payout
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p = <-l.jobs:
		}
		if err := l.quota.Wait(ctx); err != nil {
			return err
		}
		switch err := l.send(p); {
		case err == nil:
		case errors.Is(err, errRefused):
			log.Printf("%s: %s %v", l.name, p.ref, err)
		default:
			l.drop()
		}
	}
}

func partner(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			sc := bufio.NewScanner(c)
			for sc.Scan() {
				time.Sleep(2 * time.Millisecond)
				if rand.IntN(400) == 0 {
					return
				}
				if _, err := io.WriteString(c, "OK "+sc.Text()+"\n"); err != nil {
					return
				}
			}
		}()
	}
}

func cashier(ctx context.Context, to *link, every time.Duration) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		if rand.IntN(4) == 0 {
			continue
		}
		select {
		case to.jobs <- payout{ref: fmt.Sprintf("%s-%06d", to.name, n), cents: rand.IntN(9000)}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func closedPort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go partner(l)
	g, ctx := errgroup.WithContext(context.Background())
	g.Go(func() error { return http.ListenAndServe(os.Getenv("ADDR"), nil) })
	for _, name := range []string{"alto", "brio", "coda", "duet", "etude", "forte"} {
		k := newLink(name, l.Addr().String(), 160)
		g.Go(func() error { return k.run(ctx) })
		g.Go(func() error { return cashier(ctx, k, 8*time.Millisecond) })
	}
	for _, name := range []string{"sandbox-1", "sandbox-2"} {
		k := newLink(name, closedPort(), 5)
		g.Go(func() error { return k.run(ctx) })
	}
	log.Fatal(g.Wait())
}
