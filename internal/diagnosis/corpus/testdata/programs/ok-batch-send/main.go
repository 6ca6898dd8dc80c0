// Ok-batch-send feeds rows to two workers, no faster than they take them.
package main

import (
	"crypto/sha512"
	"sync"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type row struct {
	id  int
	key [64]byte
}

func process(r row) row {
	for range 60 {
		r.key = sha512.Sum512(r.key[:])
	}
	return r
}

func main() {
	s := stage.Start()
	rows := make(chan row)
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for r := range rows {
				process(r)
			}
		})
	}
	for n := 0; s.Context().Err() == nil; n++ {
		rows <- row{id: n}
	}
	close(rows)
	workers.Wait()
	s.Wait()
}
