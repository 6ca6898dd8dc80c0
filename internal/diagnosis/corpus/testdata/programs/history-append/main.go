// History-append keeps the history of prices.
package main

import (
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type tick struct {
	at    time.Time
	price float64
	depth [24]float64
}

type series[T any] struct {
	mu     sync.Mutex
	values []T
}

func (s *series[T]) add(v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values = append(s.values, v) // want: heap-growth
}

type market struct{ byItem map[string]*series[tick] }

func (m *market) quote(item string, price float64) {
	m.byItem[item].add(tick{at: time.Now(), price: price}) // want: heap-growth
}

func main() {
	s := stage.Start()
	m := &market{map[string]*series[tick]{}}
	items := []string{"sword", "shield", "potion", "boots", "ring", "cloak", "map", "horse"}
	for _, item := range items {
		m.byItem[item] = &series[tick]{}
	}
	go func() {
		for n := 0; ; n++ {
			for range 20 {
				m.quote(items[n%len(items)], float64(n))
			}
			time.Sleep(time.Millisecond)
		}
	}()
	s.Wait()
}
