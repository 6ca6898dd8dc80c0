// Lobby-pubsub-leak lets visitors follow the lobby for a moment.
package main

import (
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type feed struct {
	mu   sync.Mutex
	subs map[chan string]struct{}
}

func (f *feed) subscribe() (<-chan string, func()) {
	c := make(chan string, 1)
	f.mu.Lock()
	f.subs[c] = struct{}{}
	f.mu.Unlock()
	return c, func() {
		f.mu.Lock()
		delete(f.subs, c)
		f.mu.Unlock()
	}
}

func (f *feed) publish(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.subs {
		select {
		case c <- text:
		default:
		}
	}
}

func forward(from <-chan string, to chan<- string) {
	for text := range from { // want: goroutine-leak
		select {
		case to <- text:
		default:
		}
	}
}

func (f *feed) visit(w http.ResponseWriter, _ *http.Request) {
	c, cancel := f.subscribe()
	defer cancel()
	out := make(chan string, 1)
	go forward(c, out)
	select {
	case text := <-out:
		_, _ = w.Write([]byte(text))
	case <-time.After(50 * time.Millisecond):
	}
}

func main() {
	s := stage.Start()
	f := &feed{subs: map[chan string]struct{}{}}
	go func() {
		for {
			f.publish("news")
			time.Sleep(100 * time.Millisecond)
		}
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("/visit", f.visit)
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/visit", PerSecond: 60})
	s.Wait()
}
