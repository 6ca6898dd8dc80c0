// Retry-lock-sleep deals cards, and tries again when the shoe is being shuffled.
package main

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

var errShuffling = errors.New("the shoe is being shuffled")

type shoe struct {
	sync.Mutex
	cards int
	dealt int
}

func (s *shoe) draw() error {
	s.dealt++
	if s.dealt%3 == 0 {
		return errShuffling
	}
	s.cards--
	return nil
}

func (s *shoe) deal() (err error) {
	s.Lock()
	defer s.Unlock()
	for attempt := range 5 {
		if err = s.draw(); err == nil {
			return nil
		}
		time.Sleep(time.Duration(attempt+1) * 20 * time.Millisecond) // want: lock-held-across-io
	}
	return err
}

func main() {
	st := stage.Start()
	s := &shoe{cards: 1 << 30}
	mux := http.NewServeMux()
	mux.HandleFunc("/deal", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.deal(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	st.Crowd(stage.Traffic{URL: st.Serve(mux) + "/deal", Users: 50, Pause: 5 * time.Millisecond})
	st.Wait()
}
