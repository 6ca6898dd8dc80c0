// Presence gateway: holds one connection per player who is online.
package main

import (
	"bufio"
	"context"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type gateway struct {
	mu     sync.Mutex
	online map[net.Conn]time.Time
	lastMu sync.Mutex
	last   map[string]time.Time
}

func (g *gateway) serve(c net.Conn) {
	defer func() {
		g.mu.Lock()
		delete(g.online, c)
		g.mu.Unlock()
		c.Close()
	}()
	g.mu.Lock()
	g.online[c] = time.Now()
	g.mu.Unlock()
	in := bufio.NewReaderSize(c, 256)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		g.lastMu.Lock()
		g.last[line] = time.Now()
		g.lastMu.Unlock()
		if _, err := c.Write([]byte("ok\n")); err != nil {
			return
		}
	}
}

func fleet(addr string) {
	announce("ready")
	var conns []net.Conn
	for range 3000 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			continue
		}
		conns = append(conns, c)
	}
	ack := make([]byte, 16)
	for i := 0; ; i++ {
		c := conns[i%len(conns)]
		c.Write([]byte("ping\n"))
		c.Read(ack)
		time.Sleep(4 * time.Millisecond)
	}
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "fleet" {
		fleet(os.Args[2])
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	g := &gateway{online: map[net.Conn]time.Time{}, last: map[string]time.Time{}}
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
			go g.serve(c)
		}
	}()
	if _, err := spawn("fleet", ln.Addr().String()); err != nil {
		log.Fatal(err)
	}
	<-ctx.Done()
}
