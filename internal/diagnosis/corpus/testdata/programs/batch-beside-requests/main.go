// Batch-beside-requests recomputes odds while it answers requests.
package main

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type odds struct{ grid []float64 }

func (o *odds) recompute(seed float64) float64 {
	total := seed
	for i := range o.grid { // want: scheduler-latency
		o.grid[i] = math.Sin(total) * math.Sqrt(float64(i)+seed) // want: scheduler-latency
		total += o.grid[i]                                       // want: scheduler-latency
	}
	return total
}

func main() {
	s := stage.Start()
	for i := range 60 {
		go func() {
			o := &odds{grid: make([]float64, 4096)}
			for n := float64(i); s.Context().Err() == nil; n++ {
				o.recompute(n)
			}
		}()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/odds", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strconv.FormatInt(time.Now().Unix(), 10)))
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/odds", Users: 10, Pause: 5 * time.Millisecond})
	s.Wait()
}
