// Push blast: sends campaign messages through the push gateway.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
	"golang.org/x/sync/errgroup"
)

func pushGateway() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	announce(ln.Addr().String())
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
				return
			}
			time.Sleep(1600 * time.Millisecond)
			io.WriteString(c, "queued\n")
		}()
	}
}

type sender struct {
	addr   string
	queued atomic.Int64
}

func (s *sender) push(ctx context.Context, player int, text string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "%d %s\n", player, text); err != nil {
		return err
	}
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		return err
	}
	s.queued.Add(1)
	return nil
}

func (s *sender) campaign(ctx context.Context, players []int, text string) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range players {
		g.Go(func() error { return s.push(ctx, p, text) }) // want: unbounded-concurrency
	}
	return g.Wait()
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "gateway" {
		pushGateway()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	addr, err := spawn("gateway")
	if err != nil {
		log.Fatal(err)
	}
	s := &sender{addr: addr}
	players := make([]int, 3000)
	for i := range players {
		players[i] = i
	}
	go func() {
		for n := 0; ctx.Err() == nil; n++ {
			if err := s.campaign(ctx, players, fmt.Sprintf("event %d starts", n)); err != nil && ctx.Err() == nil {
				log.Print(err)
			}
		}
	}()
	<-ctx.Done()
}
