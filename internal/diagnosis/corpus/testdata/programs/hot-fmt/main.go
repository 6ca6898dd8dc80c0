// Hot-fmt computes the keys of a leaderboard.
package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type entry struct {
	region string
	player int
	score  float64
}

func rank(entries []entry) map[string]int {
	out := make(map[string]int, len(entries))
	for i, e := range entries {
		out[keyOf(e)] = i
	}
	return out
}

func keyOf(e entry) string {
	return fmt.Sprintf("%s/%08d/%012.3f/%v", e.region, e.player, e.score, e) // want: cpu-hot-path
}

func main() {
	s := stage.Start()
	entries := make([]entry, 2000)
	for i := range entries {
		entries[i] = entry{"eu-west", i, float64(i) * 1.25}
	}
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for s.Context().Err() == nil {
				rank(entries)
				time.Sleep(200 * time.Microsecond)
			}
		})
	}
	s.Wait()
	workers.Wait()
}
