// Audit trail: records every item movement and ships the log.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type move struct {
	item, from, to int
	at             time.Time
}

type ledger struct {
	shards [16]struct {
		sync.Mutex
		owner map[int]int
	}
	journal *log.Logger
}

func newLedger(w io.Writer) *ledger {
	l := &ledger{journal: log.New(w, "audit ", log.LstdFlags|log.Lmicroseconds)}
	for i := range l.shards {
		l.shards[i].owner = map[int]int{}
	}
	return l
}

func (l *ledger) apply(m move) {
	s := &l.shards[m.item%len(l.shards)]
	s.Lock()
	s.owner[m.item] = m.to
	s.Unlock()
	l.trace(m)
}

func (l *ledger) trace(m move) {
	l.journal.Printf("moved item=%d from=player-%d to=player-%d at=%s shard=%d", m.item, m.from, m.to, m.at.Format(time.RFC3339Nano), m.item%len(l.shards)) // want: log-contention
}

func (l *ledger) realm(ctx context.Context) {
	for ctx.Err() == nil {
		l.apply(move{rand.IntN(4000), rand.IntN(1000), rand.IntN(1000), time.Now()})
		time.Sleep(2 * time.Millisecond)
	}
}

// shipper forwards the log to the collector, which grants it a fixed rate.
func shipper() {
	buf := make([]byte, 4<<10)
	for {
		n, err := io.ReadFull(os.Stdin, buf)
		if err != nil {
			return
		}
		time.Sleep(time.Duration(n) * 5 * time.Microsecond)
	}
}

func startShipper() (io.Writer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "shipper")
	w, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("shipper: %w", err)
	}
	return w, nil
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "shipper" {
		shipper()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	w, err := startShipper()
	if err != nil {
		log.Fatal(err)
	}
	l := newLedger(w)
	for range 50 {
		go l.realm(ctx)
	}
	<-ctx.Done()
}
