package main

import (
	"context"
	"log"
	"math/rand"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type client struct {
	inbox chan string
	seen  int
}

func (c *client) serve(ctx context.Context) {
	for {
		select {
		case <-c.inbox:
			c.seen++
		case <-ctx.Done():
			return
		}
	}
}

type lobby struct {
	mu      sync.RWMutex
	clients []*client
}

func (l *lobby) join(ctx context.Context) {
	c := &client{inbox: make(chan string, 4)}
	l.mu.Lock()
	l.clients = append(l.clients, c)
	l.mu.Unlock()
	go c.serve(ctx)
}

func (l *lobby) whisper(i int, msg string) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	select {
	case l.clients[i%len(l.clients)].inbox <- msg:
	default:
	}
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	l := &lobby{}
	for i := 0; i < 4000; i++ {
		l.join(ctx)
	}
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			l.whisper(rand.Int(), "gg")
		case <-ctx.Done():
			return
		}
	}
}
