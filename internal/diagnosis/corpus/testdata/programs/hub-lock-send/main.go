// Hub-lock-send tells players what others do.
package main

import (
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type player struct {
	out   chan string
	delay time.Duration
	last  string
}

func (p *player) write() {
	for m := range p.out {
		time.Sleep(p.delay)
		p.last = m
	}
}

type hub struct {
	mu  sync.Mutex
	all map[int]*player
}

func (h *hub) tell(m string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.all {
		p.out <- m // want: lock-held-across-io
	}
}

func main() {
	s := stage.Start()
	h := &hub{all: map[int]*player{}}
	for i := range 20 {
		p := &player{out: make(chan string, 2)}
		if i == 7 {
			p.delay = 30 * time.Millisecond
		}
		h.all[i] = p
		go p.write()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/say", func(http.ResponseWriter, *http.Request) { h.tell("hello") })
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/say", Users: 30, Pause: 20 * time.Millisecond})
	s.Wait()
}
