// Semaphore-unreleased admits players to matches.
package main

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

var errLevel = errors.New("the level is too low")

type entry struct {
	slots *semaphore.Weighted
	n     atomic.Int64
}

func (e *entry) admit(ctx context.Context) error {
	if err := e.slots.Acquire(ctx, 1); err != nil { // want: pool-leaked
		return err
	}
	if e.n.Add(1)%25 == 0 {
		return errLevel
	}
	time.Sleep(3 * time.Millisecond)
	e.slots.Release(1)
	return nil
}

func main() {
	s := stage.Start()
	e := &entry{slots: semaphore.NewWeighted(12)}
	mux := http.NewServeMux()
	mux.HandleFunc("/join", func(w http.ResponseWriter, r *http.Request) {
		if err := e.admit(r.Context()); err != nil { // want: pool-leaked
			http.Error(w, err.Error(), http.StatusForbidden)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/join", Users: 40, Pause: 20 * time.Millisecond})
	s.Wait()
}
