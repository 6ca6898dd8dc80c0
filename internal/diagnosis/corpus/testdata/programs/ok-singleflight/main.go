// Ok-singleflight shares one fetch among all who ask at the same time.
package main

import (
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type weather struct {
	base   string
	flight singleflight.Group

	mu   sync.RWMutex
	text []byte
	at   time.Time
}

func (s *weather) fetch() ([]byte, error) {
	resp, err := http.Get(s.base + "/weather")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func (s *weather) current() ([]byte, error) {
	s.mu.RLock()
	text, at := s.text, s.at
	s.mu.RUnlock()
	if time.Since(at) < time.Second {
		return text, nil
	}
	v, err, _ := s.flight.Do("weather", func() (any, error) {
		text, err := s.fetch()
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.text, s.at = text, time.Now()
		s.mu.Unlock()
		return text, nil
	})
	if err != nil {
		return nil, err
	}
	return v.([]byte), nil
}

func main() {
	stage.Child("station", standin.Web(standin.Always(20*time.Millisecond)))
	s := stage.Start()
	wt := &weather{base: "http://" + s.Spawn("station")}
	mux := http.NewServeMux()
	mux.HandleFunc("/weather", func(w http.ResponseWriter, _ *http.Request) {
		text, err := wt.current()
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = w.Write(text)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/weather", Users: 30, Pause: 20 * time.Millisecond})
	s.Wait()
}
