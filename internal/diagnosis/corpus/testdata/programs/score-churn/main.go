// Score-churn maps functions over small slices in parallel.
package main

import (
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

func parallel[A, B any](in []A, f func(A) B) []B {
	type result struct {
		at int
		v  B
	}
	results := make(chan result, len(in))
	for i, v := range in {
		go func() { results <- result{i, f(v)} }() // want: goroutine-churn
	}
	out := make([]B, len(in))
	for range in {
		r := <-results
		out[r.at] = r.v
	}
	return out
}

type hand [5]int

func value(h hand) (v int) {
	for _, c := range h {
		v += c % 13
	}
	return v
}

func main() {
	s := stage.Start()
	hands := make([]hand, 48)
	for i := range hands {
		hands[i] = hand{i, i * 3, i * 5, i * 7, i * 11}
	}
	for s.Context().Err() == nil {
		for range 50 {
			parallel(hands, value)
		}
		time.Sleep(time.Millisecond)
	}
	s.Wait()
}
