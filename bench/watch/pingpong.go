package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/bench/internal/measure"
)

// pairs of goroutines hand over to each other, one for each core.
const pairs = 2

// each of so many round trips is timed; to time all would be a load of its own.
const timed = 64

// pingPong is the process of the worst case. Asked for a reset, it forgets; asked
// for anything else, it says what it did since.
func pingPong(center string) error {
	var players [pairs]player
	for i := range players {
		players[i].play()
	}
	a, err := agent.Start(agent.Config{Center: center, Project: "bench", Service: "pingpong"})
	if err != nil {
		return err
	}
	defer a.Close()
	return measure.Answer("ready", func(line string) (any, error) {
		window, err := time.ParseDuration(line)
		if err != nil {
			return nil, err
		}
		before := [pairs]int64{}
		for i := range players {
			before[i] = players[i].trips.Load()
			players[i].next.Store(new([]time.Duration))
		}
		cpu, began := measure.CPU(), time.Now()
		time.Sleep(window)
		lasted, spent := time.Since(began), measure.CPU()-cpu
		var n int64
		var took []time.Duration
		for i := range players {
			n += players[i].trips.Load() - before[i]
			players[i].next.Store(nil)
			took = append(took, <-players[i].full...)
		}
		if n == 0 || len(took) == 0 {
			return nil, fmt.Errorf("nobody played for %v", window)
		}
		slices.Sort(took)
		return []float64{float64(n) / lasted.Seconds(), took[len(took)*99/100].Seconds(), spent.Seconds() / float64(n)}, nil
	})
}

// player is one pair.
type player struct {
	trips atomic.Int64
	next  atomic.Pointer[[]time.Duration] // nil = nothing is noted
	full  chan []time.Duration            // what was noted, once next is nil
}

func (p *player) play() {
	there, back := make(chan struct{}), make(chan struct{})
	p.full = make(chan []time.Duration)
	go func() { // until the process ends
		for range there {
			back <- struct{}{}
		}
	}()
	go func() {
		var noting *[]time.Duration
		for n := 0; ; n++ {
			if n%timed == 0 {
				if now := p.next.Load(); now != noting {
					if now == nil {
						p.full <- *noting
					}
					noting = now
				}
			}
			if noting == nil || n%timed != 0 {
				there <- struct{}{}
				<-back
			} else {
				at := time.Now()
				there <- struct{}{}
				<-back
				*noting = append(*noting, time.Since(at))
			}
			p.trips.Add(1)
		}
	}()
}

func (b *bench) worstCase(until time.Time) error {
	cmd, err := measure.Again(b.ctx, "-role", "pingpong", "-center", b.center)
	if err != nil {
		return err
	}
	cmd.Env = append(os.Environ(), "OPS_AGENT=", "OPS_TOKEN_FILE=", "GOMAXPROCS="+strconv.Itoa(procs()))
	child, _, err := measure.Start(cmd)
	if err != nil {
		return err
	}
	defer child.Kill()
	link, err := b.ruled()
	if err != nil {
		return err
	}
	sleep(b.ctx, b.window) // warm
	one := func() (interval, error) {
		var v []float64
		if err := child.AskFor(b.window.String(), &v); err != nil {
			return interval{}, err
		}
		return interval{v[0], v[1], v[2]}, nil
	}
	all := settings(b.ctx, link)
	got, plain, err := b.alternate(all, until, one)
	if err != nil {
		return err
	}
	title(fmt.Sprintf("Worst case: %d pairs of goroutines that do nothing but hand over to each other, GOMAXPROCS=%d", pairs, procs()), len(got[0]), plain)
	var t measure.Table
	t.Row("watched by", "hand-overs ×", "p99 ×", "CPU per hand-over ×")
	for i, s := range all {
		row(&t, s.name, got[i])
	}
	t.Print(os.Stdout)
	return nil
}
