package main

import (
	"context"
	"errors"
	"expvar"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"
)

type kind uint8

const (
	kill kind = iota
	loot
	travel
	kinds
)

type deed struct {
	player uint32
	kind   kind
	count  int
}

type step func(ctx context.Context, d *deed) error

type progress struct {
	mu    sync.Mutex
	tally [kinds][256]int
}

func (p *progress) add(_ context.Context, d *deed) error {
	p.mu.Lock()
	p.tally[d.kind][d.player&0xff] += d.count
	p.mu.Unlock()
	return nil
}

type rewards struct {
	mu   sync.Mutex
	owed [256]int
}

func (r *rewards) grant(ctx context.Context, d *deed) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.count < 8 {
		return nil
	}
	r.mu.Lock()
	r.owed[d.player&0xff]++
	r.mu.Unlock()
	return nil
}

var errForged = errors.New("deed rejected")

func vet(_ context.Context, d *deed) error {
	if d.count == 0 || d.kind >= kinds {
		return errForged
	}
	return nil
}

type attempt struct {
	ctx   context.Context
	abort context.CancelFunc
	deed  deed
}

func (a *attempt) through(steps []step) error { // want: timer-leak
	for _, s := range steps {
		if err := s(a.ctx, &a.deed); err != nil {
			a.abort() // want: timer-leak
			return err
		}
	}
	return nil
}

type engine struct {
	root     context.Context
	deadline map[kind]time.Duration
	steps    []step
	inbox    chan deed
	done     *expvar.Int
	refused  *expvar.Int
}

func (e *engine) admit(d deed) *attempt {
	a := &attempt{deed: d}
	a.ctx, a.abort = context.WithTimeout(e.root, e.deadline[d.kind]) // want: timer-leak
	return a
}

func (e *engine) work() {
	for d := range e.inbox {
		if err := e.admit(d).through(e.steps); err != nil {
			e.refused.Add(1)
			continue
		}
		e.done.Add(1)
	}
}

func (e *engine) feed(every time.Duration, burst int) {
	clock := time.NewTicker(every)
	defer clock.Stop()
	for {
		select {
		case <-e.root.Done():
			return
		case <-clock.C:
		}
		for range burst {
			e.inbox <- deed{player: rand.Uint32(), kind: kind(rand.IntN(int(kinds))), count: rand.IntN(12)}
		}
	}
}

func main() {
	root, stop := context.WithCancel(context.Background())
	defer stop()

	var (
		prog = new(progress)
		rew  = new(rewards)
	)
	e := &engine{
		root: root,
		deadline: map[kind]time.Duration{
			kill:   10 * time.Minute,
			loot:   10 * time.Minute,
			travel: 30 * time.Minute,
		},
		steps:   []step{vet, prog.add, rew.grant},
		inbox:   make(chan deed, 128),
		done:    expvar.NewInt("quest.done"),
		refused: expvar.NewInt("quest.refused"),
	}
	for range 3 {
		go e.work()
	}
	go e.feed(5*time.Millisecond, 40)

	if err := http.ListenAndServe(os.Getenv("ADDR"), nil); err != nil {
		log.Fatal(err)
	}
}
