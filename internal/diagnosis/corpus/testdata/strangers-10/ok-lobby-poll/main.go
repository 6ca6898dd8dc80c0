package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strconv"
	"sync"
	"time"
)

type notice struct {
	Rev  int    `json:"rev"`
	Text string `json:"text"`
}

type room struct {
	mu   sync.Mutex
	last notice
	wake chan struct{}
}

func newRoom() *room { return &room{wake: make(chan struct{})} }

func (r *room) post(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = notice{Rev: r.last.Rev + 1, Text: text}
	close(r.wake)
	r.wake = make(chan struct{})
}

func (r *room) after(rev int) (notice, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last.Rev > rev {
		return r.last, nil
	}
	return notice{}, r.wake
}

func (r *room) await(ctx context.Context, rev int) (notice, bool) {
	for {
		n, wake := r.after(rev)
		if wake == nil {
			return n, true
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return notice{}, false
		}
	}
}

type lobby struct {
	rooms []*room
	hold  time.Duration
}

func (l *lobby) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	no, err := strconv.Atoi(r.PathValue("room"))
	if err != nil || no < 0 || no >= len(l.rooms) {
		http.NotFound(w, r)
		return
	}
	rev, _ := strconv.Atoi(r.FormValue("rev"))
	ctx, cancel := context.WithTimeout(r.Context(), l.hold)
	defer cancel()
	n, ok := l.rooms[no].await(ctx, rev)
	if !ok {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	json.NewEncoder(w).Encode(n)
}

func (l *lobby) announce(every time.Duration) {
	for range time.Tick(every) {
		l.rooms[rand.IntN(len(l.rooms))].post(fmt.Sprintf("table %d opens", rand.IntN(500)))
	}
}

type guest struct {
	http *http.Client
	base string
	room int
	rev  int
}

func (g *guest) poll() error {
	res, err := g.http.Get(fmt.Sprintf("%s/rooms/%d/next?rev=%d", g.base, g.room, g.rev))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNoContent {
		return nil
	}
	var n notice
	if err := json.NewDecoder(res.Body).Decode(&n); err != nil && err != io.EOF {
		return err
	}
	g.rev = n.Rev
	io.Copy(io.Discard, res.Body)
	return nil
}

func (g *guest) stay() {
	for {
		if err := g.poll(); err != nil {
			slog.Warn("poll", "room", g.room, "err", err)
			time.Sleep(time.Second)
		}
	}
}

func main() {
	lob := &lobby{hold: 25 * time.Second}
	for range 60 {
		lob.rooms = append(lob.rooms, newRoom())
	}
	mux := http.NewServeMux()
	mux.Handle("GET /rooms/{room}/next", lob)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		slog.Error("listen", "err", err)
		os.Exit(1)
	}
	go http.Serve(ln, mux)
	go lob.announce(45 * time.Millisecond)

	client := &http.Client{Transport: &http.Transport{MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096}}
	for i := range 1500 {
		g := &guest{http: client, base: "http://" + ln.Addr().String(), room: i % len(lob.rooms)}
		go g.stay()
	}
	if err := http.ListenAndServe(os.Getenv("ADDR"), nil); err != nil {
		slog.Error("admin", "err", err)
	}
}
