// Board-short-holds ranks an event.
package main

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type score struct{ player, points int }

type board struct {
	mu  sync.Mutex
	all []score
}

func (b *board) credit(i, points int) (rank int) {
	b.mu.Lock() // want: lock-contention
	mine := &b.all[i%len(b.all)]
	mine.points += points
	for _, other := range b.all { // want: lock-contention
		if other.points > mine.points { // want: lock-contention
			rank++
		}
	}
	b.mu.Unlock() // want: lock-contention
	return rank
}

func main() {
	s := stage.Start()
	b := &board{all: make([]score, 150_000)}
	for i := range b.all {
		b.all[i] = score{i, rand.IntN(1_000_000)}
	}
	for range 24 {
		go func() {
			for {
				b.credit(rand.IntN(150_000), rand.IntN(100))
				time.Sleep(time.Duration(500+rand.IntN(1000)) * time.Microsecond)
			}
		}()
	}
	s.Wait()
}
