// Command table-audit runs betting tables and writes an audit trail of them.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Table struct {
	id   int
	log  *slog.Logger
	pot  atomic.Int64
	seen atomic.Int64
}

type Bet struct {
	Player, Amount int
	Colour         string
	Key            string
}

func (t *Table) Place(ctx context.Context, b Bet) int64 {
	pot := t.pot.Add(int64(b.Amount))
	t.trail(ctx, "bet.accepted", b, pot)
	if t.seen.Add(1)%16 == 0 {
		pot = t.pot.Swap(0)
		t.trail(ctx, "round.closed", b, pot)
	}
	return pot
}

func (t *Table) trail(ctx context.Context, what string, b Bet, pot int64) {
	t.log.LogAttrs(ctx, slog.LevelInfo, what, // want: log-contention
		slog.Group("bet", slog.Int("player", b.Player), slog.Int("amount", b.Amount),
			slog.String("colour", b.Colour), slog.String("key", b.Key)),
		slog.Int64("pot", pot))
}

// shipper hands what the service writes to the collector, as the side-car does.
func shipper(r io.Reader, each time.Duration) {
	buf := make([]byte, 4096)
	for {
		if _, err := r.Read(buf); err != nil {
			return
		}
		time.Sleep(each)
	}
}

func main() {
	ctx, _, done := start()
	defer done()
	r, w, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	go shipper(r, 12*time.Millisecond)
	base := slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{AddSource: true}))

	tables := make([]*Table, 12)
	for i := range tables {
		tables[i] = &Table{id: i, log: base.With("service", "table", "table", i)}
	}
	colours := []string{"red", "yellow", "white", "blue"}
	for p := range 64 {
		go func() {
			rnd := rand.New(rand.NewPCG(uint64(p), 9))
			for ctx.Err() == nil {
				t := tables[rnd.IntN(len(tables))]
				t.Place(ctx, Bet{Player: p, Amount: 1 + rnd.IntN(50), Colour: colours[rnd.IntN(4)], Key: fmt.Sprintf("%016x", rnd.Uint64())})
				time.Sleep(time.Duration(3+rnd.IntN(8)) * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}

// start gives the context of the process and joins the operations centre.
func start() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	return ctx, a, func() { a.Close(); stop() }
}
