// Gc-pressure simulates hands of cards on a big tree of positions.
package main

import (
	"sync"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type node struct {
	left, right *node
	value       int
}

func grow(depth int) *node {
	if depth == 0 {
		return &node{value: 1}
	}
	return &node{left: grow(depth - 1), right: grow(depth - 1)}
}

type hand struct {
	cards []*int
	odds  *float64
}

func simulate(n int) (total int) {
	for i := range n {
		h := &hand{odds: new(float64)} // want: cpu-gc-pressure
		for c := range 5 {
			v := c * i                    // want: cpu-gc-pressure
			h.cards = append(h.cards, &v) // want: cpu-gc-pressure
		}
		recent[i%len(recent)] = h
		total += *h.cards[4]
	}
	return total
}

var recent [4096]*hand

func main() {
	s := stage.Start()
	root := grow(19)
	var all sync.WaitGroup
	all.Go(func() {
		for s.Context().Err() == nil {
			root.value += simulate(10_000)
		}
	})
	all.Wait()
	s.Wait()
}
