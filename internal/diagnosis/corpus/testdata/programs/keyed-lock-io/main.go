// Keyed-lock-io joins players to rooms.
package main

import (
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type locks[K comparable] struct{ m sync.Map }

func (l *locks[K]) lock(k K) (unlock func()) {
	v, _ := l.m.LoadOrStore(k, &sync.Mutex{})
	mu := v.(*sync.Mutex)
	mu.Lock()
	return mu.Unlock
}

type lobby struct {
	locks locks[string]
	http  *http.Client
	base  string
}

func (l *lobby) join(room string) error {
	unlock := l.locks.lock(room)
	defer unlock()
	resp, err := l.http.Get(l.base + "/join/" + room) // want: lock-held-across-io
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body) // want: lock-held-across-io
	return err
}

func main() {
	stage.Child("rooms", standin.Web(standin.Always(30*time.Millisecond)))
	s := stage.Start()
	l := &lobby{http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}, base: "http://" + s.Spawn("rooms")}
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/join", func(w http.ResponseWriter, _ *http.Request) {
		room := "popular"
		if i := n.Add(1); i%2 == 0 {
			room = strconv.FormatInt(i%1000, 10)
		}
		if err := l.join(room); err != nil { // want: lock-held-across-io
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/join", Users: 40, Pause: 10 * time.Millisecond})
	s.Wait()
}
