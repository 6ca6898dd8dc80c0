// Actor-computes values hands.
package main

import (
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type hand struct {
	cards [7]int
	value chan int
}

type dealer struct{ in chan hand }

func (d *dealer) value(cards [7]int) (sum int) {
	for n := range 3_000_000 { // want: channel-backpressure
		sum += (cards[n%7]*31 + sum>>3) & 1023 // want: channel-backpressure
	}
	return sum
}

func (d *dealer) run() {
	for h := range d.in {
		h.value <- d.value(h.cards) // want: channel-backpressure
	}
}

func main() {
	s := stage.Start()
	d := &dealer{make(chan hand)}
	go d.run()
	mux := http.NewServeMux()
	mux.HandleFunc("/show", func(http.ResponseWriter, *http.Request) {
		h := hand{[7]int{1, 2, 3, 4, 5, 6, 7}, make(chan int, 1)}
		d.in <- h // want: channel-backpressure
		<-h.value
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/show", Users: 40, Pause: 5 * time.Millisecond})
	s.Wait()
}
