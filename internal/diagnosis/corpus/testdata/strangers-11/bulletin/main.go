package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"sync/atomic"
	"time"
)

type notice struct {
	room int
	text string
}

type command func(*hub)

type member struct {
	room int
	mail chan notice
	lost atomic.Int64
}

type hub struct {
	cmds  chan command
	posts chan notice
	rooms map[int]map[*member]struct{}
}

func newHub() *hub {
	h := &hub{make(chan command), make(chan notice, 256), map[int]map[*member]struct{}{}}
	go h.loop()
	return h
}

func (h *hub) loop() {
	for {
		select {
		case c := <-h.cmds:
			c(h)
		case n := <-h.posts:
			for m := range h.rooms[n.room] {
				select {
				case m.mail <- n:
				default:
					m.lost.Add(1)
				}
			}
		}
	}
}

func (h *hub) enter(room int) *member {
	m := &member{room: room, mail: make(chan notice, 64)}
	h.cmds <- func(h *hub) {
		if h.rooms[room] == nil {
			h.rooms[room] = map[*member]struct{}{}
		}
		h.rooms[room][m] = struct{}{}
	}
	return m
}

func (h *hub) leave(m *member) {
	h.cmds <- func(h *hub) {
		delete(h.rooms[m.room], m)
		if len(h.rooms[m.room]) == 0 {
			delete(h.rooms, m.room)
		}
		close(m.mail)
	}
}

func (h *hub) stream(w http.ResponseWriter, r *http.Request) {
	var room int
	if _, err := fmt.Sscan(r.PathValue("room"), &room); err != nil {
		http.Error(w, "room", http.StatusBadRequest)
		return
	}
	m := h.enter(room)
	defer h.leave(m)
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	_ = rc.Flush()
	keepalive := time.NewTicker(5 * time.Second)
	defer keepalive.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-keepalive.C:
			_, _ = io.WriteString(w, ": ping\n\n")
		case n := <-m.mail:
			fmt.Fprintf(w, "data: %s\n\n", n.text)
			for range len(m.mail) {
				n = <-m.mail
				fmt.Fprintf(w, "data: %s\n\n", n.text)
			}
		}
		if rc.Flush() != nil {
			return
		}
	}
}

func reader(ctx context.Context, hc *http.Client, url string, got *atomic.Int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	for sc.Scan() {
		got.Add(1)
	}
	return sc.Err()
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()
	h := newHub()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rooms/{room}", h.stream)
	ts := httptest.NewServer(mux)
	var got atomic.Int64
	const rooms = 40
	for i := range 400 {
		go func() {
			for {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second+rand.N(20*time.Second))
				_ = reader(ctx, ts.Client(), fmt.Sprintf("%s/rooms/%d", ts.URL, i%rooms), &got)
				cancel()
			}
		}()
	}
	for n := range 4 {
		go func() {
			for now := range time.Tick(25 * time.Millisecond) {
				room := rand.IntN(rooms)
				h.posts <- notice{room, fmt.Sprintf("%d/%d %s", n, room, now.Format(time.StampMilli))}
			}
		}()
	}
	select {}
}
