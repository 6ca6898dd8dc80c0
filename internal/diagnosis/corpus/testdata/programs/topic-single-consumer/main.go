// Topic-single-consumer publishes bets to a topic whose subscriber does them one by one.
package main

import (
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type topic[T any] struct{ subs []chan T }

func (t *topic[T]) subscribe(size int) <-chan T {
	c := make(chan T, size)
	t.subs = append(t.subs, c)
	return c
}

func (t *topic[T]) publish(v T) {
	for _, sub := range t.subs {
		sub <- v // want: channel-backpressure
	}
}

type bet struct {
	player string
	amount int
}

type audit struct{ last [32]byte }

func (a *audit) run(bets <-chan bet) {
	for b := range bets {
		a.seal(b)
	}
}

func (a *audit) seal(b bet) {
	a.last = sha256.Sum256(append(a.last[:], b.player...))
	time.Sleep(12 * time.Millisecond) // the archive's pace
}

type desk struct{ bets *topic[bet] }

func (d *desk) place(b bet) { d.bets.publish(b) }

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.place(bet{r.FormValue("player"), 10})
	w.WriteHeader(http.StatusAccepted)
}

func main() {
	s := stage.Start()
	t := &topic[bet]{}
	go new(audit).run(t.subscribe(10))
	s.Crowd(stage.Traffic{URL: s.Serve(&desk{t}) + "/?player=ada", Users: 40, Pause: 20 * time.Millisecond})
	s.Wait()
}
