// Login gate: hands out session tokens that expire on their own.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

const sessionTTL = 45 * time.Minute

type token struct {
	id     string
	player int
	issued time.Time
	scopes []string
}

type expiry interface {
	after(d time.Duration, fn func())
}

type wallClock struct{}

func (wallClock) after(d time.Duration, fn func()) {
	time.AfterFunc(d, fn) // want: timer-leak
}

type gate struct {
	clock expiry
	mu    sync.Mutex
	live  map[string]*token
}

func (g *gate) drop(id string) {
	g.mu.Lock()
	delete(g.live, id)
	g.mu.Unlock()
}

func (g *gate) issue(player int) *token {
	var raw [16]byte
	rand.Read(raw[:])
	t := &token{id: hex.EncodeToString(raw[:]), player: player, issued: time.Now(), scopes: []string{"play", "chat"}}
	g.mu.Lock()
	g.live[t.id] = t
	g.mu.Unlock()
	g.clock.after(sessionTTL, func() { g.drop(t.id) }) // want: timer-leak
	return t
}

func (g *gate) players(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var in []*token
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := range 15 {
			in = append(in, g.issue(n*15+i))
		}
		for len(in) > 300 {
			g.drop(in[0].id)
			in = append(in[:0], in[1:]...)
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	g := &gate{clock: wallClock{}, live: map[string]*token{}}
	go g.players(ctx)
	<-ctx.Done()
}
