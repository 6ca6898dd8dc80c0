// Pool-two-kinds asks a store over three lines, for logins and for moves.
package main

import (
	"context"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type pool[T any] struct{ free chan T }

func (p *pool[T]) with(ctx context.Context, do func(T) error) error {
	select { // want: pool-exhausted
	case v := <-p.free: // want: pool-exhausted
		defer func() { p.free <- v }()
		return do(v)
	case <-ctx.Done():
		return ctx.Err()
	}
}

type line struct{ id int }

func (l *line) ask() error {
	time.Sleep(8 * time.Millisecond)
	return nil
}

type sessions struct{ lines *pool[*line] }

func (s *sessions) touch(ctx context.Context) error {
	return s.lines.with(ctx, func(l *line) error { return l.ask() }) // want: pool-exhausted
}

func (s *sessions) checked(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := s.touch(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		next(w, r)
	}
}

func main() {
	s := stage.Start()
	all := &sessions{&pool[*line]{make(chan *line, 3)}}
	for i := range 3 {
		all.lines.free <- &line{i}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/login", all.checked(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	mux.HandleFunc("/move", all.checked(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	url := s.Serve(mux)
	s.Crowd(stage.Traffic{URL: url + "/login", Users: 60, Pause: 10 * time.Millisecond})
	s.Crowd(stage.Traffic{URL: url + "/move", Users: 60, Pause: 10 * time.Millisecond})
	s.Wait()
}
