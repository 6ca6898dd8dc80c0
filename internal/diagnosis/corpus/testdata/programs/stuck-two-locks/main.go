// Stuck-two-locks keeps games and their players consistent.
package main

import (
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type lobby struct {
	mu    sync.Mutex
	games map[int]*game
	score *scores
}

type scores struct {
	mu     sync.RWMutex
	points map[int]int
	lobby  *lobby
}

type game struct{ id, players int }

func (l *lobby) finish(id int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.games[id]
	time.Sleep(time.Millisecond)
	l.score.add(g.id, g.players) // want: deadlock
}

func (s *scores) add(id, n int) {
	s.mu.Lock() // want: deadlock
	defer s.mu.Unlock()
	s.points[id] += n
}

func (s *scores) summary() (total int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id := range s.points {
		total += s.lobby.playersOf(id) // want: deadlock
	}
	return total
}

func (l *lobby) playersOf(id int) int {
	l.mu.Lock() // want: deadlock
	defer l.mu.Unlock()
	return l.games[id].players
}

func main() {
	s := stage.Start()
	l := &lobby{games: map[int]*game{1: {1, 4}, 2: {2, 5}}}
	l.score = &scores{points: map[int]int{1: 1, 2: 2}, lobby: l}
	mux := http.NewServeMux()
	mux.HandleFunc("/finish", func(_ http.ResponseWriter, _ *http.Request) { l.finish(1) })
	mux.HandleFunc("/summary", func(_ http.ResponseWriter, _ *http.Request) { l.score.summary() })
	url := s.Serve(mux)
	s.Crowd(stage.Traffic{URL: url + "/finish", Users: 10, Pause: time.Millisecond})
	s.Crowd(stage.Traffic{URL: url + "/summary", Users: 10, Pause: time.Millisecond})
	s.Wait()
}
