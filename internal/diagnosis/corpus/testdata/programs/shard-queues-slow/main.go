// Shard-queues-slow spreads events over workers by room.
package main

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type event struct {
	room int
	text string
}

type shard struct {
	in    chan event
	flush func(event)
}

func (s *shard) loop() {
	for e := range s.in {
		s.flush(e)
	}
}

type ring []*shard

func (r ring) publish(e event) {
	r[e.room%len(r)].in <- e // want: channel-backpressure
}

func main() {
	stage.Child("archive", standin.Web(standin.Always(20*time.Millisecond)))
	s := stage.Start()
	base := "http://" + s.Spawn("archive")
	r := make(ring, 8)
	for i := range r {
		r[i] = &shard{in: make(chan event, 16), flush: func(event) {}}
		if i == 3 {
			r[i].flush = func(e event) {
				resp, err := http.Post(base+"/events", "text/plain", strings.NewReader(e.text))
				if err == nil {
					resp.Body.Close()
				}
			}
		}
		go r[i].loop()
	}
	send := r.publish
	mux := http.NewServeMux()
	mux.HandleFunc("/say", func(w http.ResponseWriter, req *http.Request) {
		room, _ := strconv.Atoi(req.FormValue("room"))
		send(event{room, "hello"}) // want: channel-backpressure
	})
	at := s.Serve(mux)
	s.Crowd(stage.Traffic{URL: at + "/say?room=3", Users: 40, Pause: 50 * time.Millisecond})
	s.Crowd(stage.Traffic{URL: at + "/say?room=4", Users: 20, Pause: 20 * time.Millisecond})
	s.Wait()
}
