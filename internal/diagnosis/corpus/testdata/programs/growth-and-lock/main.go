// Growth-and-lock audits chats while it stores them.
package main

import (
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/testdata/programs/cache-redis/redis"
)

type message struct {
	from string
	body [8 << 10]byte
}

type history struct {
	mu  sync.Mutex
	all []*message
}

func (h *history) keep(from string) {
	m := &message{from: from} // want: heap-growth
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, m)
}

type room struct {
	mu    sync.Mutex
	lines int
	store *redis.Client
}

func (r *room) say(text string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines++
	_, err := r.store.Do("RPUSH", "room", text) // want: lock-held-across-io
	return err
}

func main() {
	stage.Child("store", standin.Redis(standin.Always(15*time.Millisecond)))
	s := stage.Start()
	h, rm := &history{}, &room{store: redis.New(s.Spawn("store"))}
	mux := http.NewServeMux()
	mux.HandleFunc("/say", func(w http.ResponseWriter, r *http.Request) {
		if err := rm.say("hello"); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	mux.HandleFunc("/whisper", func(_ http.ResponseWriter, r *http.Request) { h.keep(r.RemoteAddr) })
	url := s.Serve(mux)
	s.Crowd(stage.Traffic{URL: url + "/say", Users: 40, Pause: 10 * time.Millisecond})
	s.Crowd(stage.Traffic{URL: url + "/whisper", PerSecond: 500})
	s.Wait()
}
