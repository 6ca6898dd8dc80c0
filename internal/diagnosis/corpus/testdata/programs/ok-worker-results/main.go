// Ok-worker-results lets handlers wait for what a pool of workers computes.
package main

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type job struct {
	seed   byte
	result chan [32]byte
}

func compute(seed byte) (sum [32]byte) {
	block := make([]byte, 4096)
	block[0] = seed
	for range 100 {
		sum = sha256.Sum256(block)
		copy(block, sum[:])
	}
	slices.Reverse(block)
	return sum
}

func main() {
	s := stage.Start()
	jobs := make(chan job, 32)
	for range 4 {
		go func() {
			for j := range jobs {
				j.result <- compute(j.seed)
			}
		}()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/compute", func(w http.ResponseWriter, r *http.Request) {
		j := job{7, make(chan [32]byte, 1)}
		jobs <- j
		sum := <-j.result
		_, _ = w.Write(sum[:])
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/compute", Users: 10, Pause: 30 * time.Millisecond})
	s.Wait()
}
