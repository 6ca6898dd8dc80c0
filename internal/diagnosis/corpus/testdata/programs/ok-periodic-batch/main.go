// Ok-periodic-batch settles every three seconds what has come in.
package main

import (
	"crypto/sha256"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type bet struct {
	id    int
	proof [32]byte
}

type book struct {
	mu   sync.Mutex
	open []bet
	sums map[string]int
}

func (b *book) add(id int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = append(b.open, bet{id: id})
}

func (b *book) settle() {
	b.mu.Lock()
	batch := b.open
	b.open = nil
	b.mu.Unlock()
	sums := map[string]int{}
	for i := range batch {
		for range 40 {
			batch[i].proof = sha256.Sum256(append(batch[i].proof[:], byte(i)))
		}
		sums[strconv.Itoa(batch[i].id%50)]++
	}
	slices.SortFunc(batch, func(a, b bet) int { return int(a.proof[0]) - int(b.proof[0]) })
	b.sums = sums
}

func main() {
	s := stage.Start()
	b := &book{}
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			<-tick.C
			for range 10 {
				b.add(n)
			}
		}
	}()
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	for s.Context().Err() == nil {
		select {
		case <-tick.C:
			b.settle()
		case <-s.Context().Done():
		}
	}
	s.Wait()
}
