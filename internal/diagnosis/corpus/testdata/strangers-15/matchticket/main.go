// matchticket pairs players of similar rating and tells each of them the room to join.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync/atomic"
	"time"
)

type Ticket struct {
	Player int64
	Rating int
	Region string
	Extras [16]int64
}

type Room struct {
	ID      string
	Players [2]int64
}

// outcome is what a search ends with.
type outcome[T any] struct {
	val T
	err error
}

// within runs fn and gives up on it after limit.
func within[T any](ctx context.Context, limit time.Duration, fn func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan outcome[T]) // want: goroutine-leak
	go func() {
		v, err := fn()
		done <- outcome[T]{v, err} // want: goroutine-leak
	}()
	select {
	case o := <-done:
		return o.val, o.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

type Searcher struct {
	seq     atomic.Int64
	regions map[string]time.Duration
}

var errNoRegion = errors.New("unknown region")

// search looks for an opponent; sparsely played regions take longer.
func (s *Searcher) search(t Ticket) (Room, error) {
	lat, ok := s.regions[t.Region]
	if !ok {
		return Room{}, errNoRegion
	}
	time.Sleep(lat + time.Duration(rand.IntN(20))*time.Millisecond)
	id := s.seq.Add(1)
	return Room{ID: fmt.Sprintf("%s-%d", t.Region, id), Players: [2]int64{t.Player, t.Player + 1}}, nil
}

type Matchmaker struct {
	searcher *Searcher
	limit    time.Duration
	matched  atomic.Int64
	bots     atomic.Int64
}

func (m *Matchmaker) Enter(ctx context.Context, t Ticket) Room {
	room, err := within(ctx, m.limit, func() (Room, error) { return m.searcher.search(t) })
	if err != nil {
		// nobody in time: the player gets a bot
		m.bots.Add(1)
		return Room{ID: "bot", Players: [2]int64{t.Player, 0}}
	}
	m.matched.Add(1)
	return room
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()

	mm := &Matchmaker{
		searcher: &Searcher{regions: map[string]time.Duration{
			"tw": 5 * time.Millisecond,
			"jp": 10 * time.Millisecond,
			"br": 70 * time.Millisecond,
		}},
		limit: 50 * time.Millisecond,
	}
	go func() {
		for range time.Tick(10 * time.Second) {
			log.Printf("matched=%d bots=%d", mm.matched.Load(), mm.bots.Load())
		}
	}()

	regions := []string{"tw", "tw", "jp", "jp", "br"}
	for w := range 64 {
		go func() {
			for n := int64(0); ; n++ {
				mm.Enter(context.Background(), Ticket{
					Player: int64(w)<<32 | n,
					Rating: 800 + rand.IntN(1600),
					Region: regions[rand.IntN(len(regions))],
				})
				time.Sleep(time.Duration(20+rand.IntN(30)) * time.Millisecond)
			}
		}()
	}
	select {}
}
