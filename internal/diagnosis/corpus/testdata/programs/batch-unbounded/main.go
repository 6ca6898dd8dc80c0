// Batch-unbounded reprices a whole catalogue.
package main

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type item struct {
	id    int
	price [32]byte
}

func reprice(it *item) {
	b := make([]byte, 4096)
	for n := range 200 {
		b[n] = byte(it.id)
		it.price = sha256.Sum256(b)
	}
}

func repriceAll(items []item) {
	var wg sync.WaitGroup
	for i := range items {
		wg.Add(1)
		go func() { // want: unbounded-concurrency
			defer wg.Done()
			reprice(&items[i]) // want: unbounded-concurrency
		}()
	}
	wg.Wait()
}

func main() {
	s := stage.Start()
	items := make([]item, 20_000)
	for i := range items {
		items[i].id = i
	}
	go func() {
		for s.Context().Err() == nil {
			repriceAll(items)
			time.Sleep(50 * time.Millisecond)
		}
	}()
	s.Wait()
}
