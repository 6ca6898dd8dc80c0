// eventfeed streams the events of a tournament to its followers as server-sent events.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strconv"
	"sync"
	"time"
)

type Event struct {
	ID   int64
	Kind string
	Body string
}

// Feed is an append-only window of events; followers wait for the next one.
type Feed struct {
	mu     sync.Mutex
	window []Event
	size   int
	next   int64
	grown  chan struct{}
}

func NewFeed(size int) *Feed {
	return &Feed{size: size, grown: make(chan struct{})}
}

func (f *Feed) Append(kind, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	if len(f.window) == f.size {
		copy(f.window, f.window[1:])
		f.window = f.window[:f.size-1]
	}
	f.window = append(f.window, Event{ID: f.next, Kind: kind, Body: body})
	close(f.grown)
	f.grown = make(chan struct{})
}

// Since returns the events after id and a channel that is closed when there are more.
func (f *Feed) Since(id int64) ([]Event, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Event
	for _, e := range f.window {
		if e.ID > id {
			out = append(out, e)
		}
	}
	return out, f.grown
}

func (f *Feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	last, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
	keepalive := time.NewTicker(15 * time.Second)
	defer keepalive.Stop()
	for {
		events, more := f.Since(last)
		for _, e := range events {
			fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Kind, e.Body)
			last = e.ID
		}
		if err := rc.Flush(); err != nil {
			return
		}
		select {
		case <-more:
		case <-keepalive.C:
			fmt.Fprint(w, ": ping\n\n")
		case <-r.Context().Done():
			return
		}
	}
}

func follow(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	for sc.Scan() {
	}
	return sc.Err()
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	feed := NewFeed(64)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, feed)) }()

	for range 250 {
		go func() {
			for {
				err := follow(context.Background(), "http://"+ln.Addr().String())
				log.Print("follower: ", err)
				time.Sleep(time.Second)
			}
		}()
	}
	for n := 0; ; n++ {
		feed.Append("score", fmt.Sprintf(`{"round":%d,"leader":"team-%d"}`, n/8, n%8))
		time.Sleep(600 * time.Millisecond)
	}
}
