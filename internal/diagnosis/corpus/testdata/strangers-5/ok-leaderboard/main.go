package main

import (
	"context"
	"log"
	"math/rand"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sort"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type row struct {
	player int
	score  int64
}

type board struct {
	mu   sync.RWMutex
	rows []row
	pos  map[int]int
}

func (b *board) top(n int, dst []row) []row {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return append(dst[:0], b.rows[:min(n, len(b.rows))]...)
}

func (b *board) bump(player int, by int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := b.pos[player]
	b.rows[i].score += by
	for i > 0 && b.rows[i-1].score < b.rows[i].score {
		b.rows[i-1], b.rows[i] = b.rows[i], b.rows[i-1]
		b.pos[b.rows[i].player] = i
		i--
	}
	b.pos[player] = i
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	b := &board{pos: map[int]int{}}
	for i := 0; i < 1000; i++ {
		b.rows = append(b.rows, row{i, rand.Int63n(1e6)})
	}
	sort.Slice(b.rows, func(i, j int) bool { return b.rows[i].score > b.rows[j].score })
	for i, r := range b.rows {
		b.pos[r.player] = i
	}
	for i := 0; i < 50; i++ {
		go func() {
			buf := make([]row, 0, 20)
			for ctx.Err() == nil {
				buf = b.top(20, buf)
				time.Sleep(time.Duration(5+rand.Intn(10)) * time.Millisecond)
			}
		}()
	}
	for i := 0; i < 4; i++ {
		go func() {
			for ctx.Err() == nil {
				b.bump(rand.Intn(1000), rand.Int63n(500))
				time.Sleep(10 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}
