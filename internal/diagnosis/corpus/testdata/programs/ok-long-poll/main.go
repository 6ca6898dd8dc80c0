// Ok-long-poll lets clients wait for news.
package main

import (
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type board struct {
	mu   sync.Mutex
	next chan struct{} // closed when there is news
	text string
}

func (b *board) wait(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	next := b.next
	b.mu.Unlock()
	timeout := time.NewTimer(25 * time.Second)
	defer timeout.Stop()
	select {
	case <-next:
		b.mu.Lock()
		defer b.mu.Unlock()
		_, _ = w.Write([]byte(b.text))
	case <-timeout.C:
		w.WriteHeader(http.StatusNoContent)
	case <-r.Context().Done():
	}
}

func (b *board) post(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = text
	close(b.next)
	b.next = make(chan struct{})
}

func main() {
	s := stage.Start()
	b := &board{next: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/news", b.wait)
	go func() {
		for {
			time.Sleep(9 * time.Second)
			b.post("news")
		}
	}()
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/news", Users: 400})
	s.Wait()
}
