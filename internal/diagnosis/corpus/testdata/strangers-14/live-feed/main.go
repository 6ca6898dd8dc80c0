package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"
)

type event[T any] struct {
	Seq  int `json:"seq"`
	Body T   `json:"body"`
}

type result struct {
	Table  int    `json:"table"`
	Winner string `json:"winner"`
}

// feed fans events out; a subscriber that falls behind loses the oldest ones.
type feed[T any] struct {
	mu   sync.Mutex
	seq  int
	subs map[chan event[T]]struct{}
}

func newFeed[T any]() *feed[T] { return &feed[T]{subs: make(map[chan event[T]]struct{})} }

func (f *feed[T]) subscribe() (<-chan event[T], func()) {
	ch := make(chan event[T], 8)
	f.mu.Lock()
	f.subs[ch] = struct{}{}
	f.mu.Unlock()
	return ch, func() {
		f.mu.Lock()
		delete(f.subs, ch)
		f.mu.Unlock()
	}
}

func (f *feed[T]) publish(body T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	e := event[T]{Seq: f.seq, Body: body}
	for ch := range f.subs {
		select {
		case ch <- e:
			continue
		default:
		}
		select {
		case <-ch:
		default:
		}
		select {
		case ch <- e:
		default:
		}
	}
}

func stream[T any](f *feed[T]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		flusher, ok := w.(http.Flusher)
		if !ok {
			http.Error(w, "no streaming", http.StatusNotImplemented)
			return
		}
		events, leave := f.subscribe()
		defer leave()
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		flusher.Flush()
		beat := time.NewTicker(15 * time.Second)
		defer beat.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-beat.C:
				if _, err := fmt.Fprint(w, ": beat\n\n"); err != nil {
					return
				}
			case e := <-events:
				data, err := json.Marshal(e)
				if err != nil {
					continue
				}
				if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
					return
				}
			}
			flusher.Flush()
		}
	}
}

func watch(client *http.Client, url string) {
	for {
		resp, err := client.Get(url)
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
		}
		_ = resp.Body.Close()
	}
}

func main() {
	f := newFeed[result]()
	mux := http.NewServeMux()
	mux.HandleFunc("/results", stream(f))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()

	go func() {
		winners := [...]string{"banker", "player", "tie"}
		for n := range time.Tick(500 * time.Millisecond) {
			f.publish(result{Table: n.Second() % 12, Winner: winners[n.Nanosecond()%3]})
		}
	}()

	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	for i := range 600 {
		if i%50 == 0 {
			time.Sleep(20 * time.Millisecond)
		}
		go watch(client, "http://"+ln.Addr().String()+"/results")
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
