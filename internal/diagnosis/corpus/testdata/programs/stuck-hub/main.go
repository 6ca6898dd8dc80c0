// Stuck-hub passes messages from players to a room.
package main

import (
	"net/http"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type member struct{ out chan string }

type hub struct {
	in      chan string
	members []*member
}

func (h *hub) loop() {
	for msg := range h.in {
		for _, m := range h.members {
			m.out <- msg // want: channel-backpressure
		}
	}
}

func (m *member) follow(until int) {
	for range until {
		<-m.out
	}
}

func (h *hub) say(w http.ResponseWriter, r *http.Request) {
	h.in <- r.FormValue("text") // want: channel-backpressure
	w.WriteHeader(http.StatusAccepted)
}

func main() {
	s := stage.Start()
	h := &hub{in: make(chan string)}
	for i := range 20 {
		m := &member{out: make(chan string, 4)}
		h.members = append(h.members, m)
		go m.follow(100 + i)
	}
	go h.loop()
	mux := http.NewServeMux()
	mux.HandleFunc("/say", h.say)
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/say?text=hello", Users: 60})
	s.Wait()
}
