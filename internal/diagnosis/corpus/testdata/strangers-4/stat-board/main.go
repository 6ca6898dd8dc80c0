// Stat board: answers percentile questions for the profile page.
package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type table struct {
	sync.RWMutex
	scores map[string]int
}

type season struct {
	table
	name string
}

func (s *season) percentile(player string) float64 {
	s.Lock() // want: lock-contention
	defer s.Unlock()
	mine, below := s.scores[player], 0
	for _, v := range s.scores {
		if v < mine {
			below++
		}
	}
	return float64(below) / float64(len(s.scores))
}

func (s *season) record(player string, v int) {
	s.Lock()
	s.scores[player] = v
	s.Unlock()
}

type pages struct {
	current *season
	served  atomic.Int64
	size    atomic.Int64
}

func (p *pages) render(name string, share float64) {
	var b bytes.Buffer
	for rank := range 40 {
		fmt.Fprintf(&b, "<tr><td>%s</td><td>%d</td><td>%.1f%%</td></tr>", name, rank, share*100)
	}
	p.size.Store(int64(b.Len()))
	p.served.Add(1)
}

func (p *pages) visit(ctx context.Context) {
	for ctx.Err() == nil {
		name := fmt.Sprintf("p%d", rand.IntN(8000))
		p.render(name, p.current.percentile(name))
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	runtime.SetMutexProfileFraction(20)
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	s := &season{name: "autumn", table: table{scores: map[string]int{}}}
	for i := range 8000 {
		s.record(fmt.Sprintf("p%d", i), rand.IntN(5000))
	}
	p := &pages{current: s}
	for range 64 {
		go p.visit(ctx)
	}
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			s.record(fmt.Sprintf("p%d", rand.IntN(8000)), rand.IntN(5000))
		}
	}()
	<-ctx.Done()
}
