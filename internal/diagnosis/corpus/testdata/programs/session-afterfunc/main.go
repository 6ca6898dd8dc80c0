// Session-afterfunc lets sessions expire after a day.
package main

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type session struct {
	id    int64
	state [2048]byte
}

type book struct {
	next    atomic.Int64
	expired atomic.Int64
}

func (b *book) open() *session {
	s := &session{id: b.next.Add(1)}      // want: timer-leak
	time.AfterFunc(24*time.Hour, func() { // want: timer-leak
		s.state[0] = 0
		b.expired.Add(1)
	})
	return s
}

func main() {
	st := stage.Start()
	b := &book{}
	mux := http.NewServeMux()
	mux.HandleFunc("/spin", func(w http.ResponseWriter, _ *http.Request) {
		s := b.open()
		s.state[1] = byte(s.id)
		w.WriteHeader(http.StatusNoContent)
	})
	st.Crowd(stage.Traffic{URL: st.Serve(mux) + "/spin", PerSecond: 900})
	st.Wait()
}
