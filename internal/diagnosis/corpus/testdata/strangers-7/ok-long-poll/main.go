// Command ok-long-poll lets clients wait for news of their room.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Room struct {
	mu      sync.Mutex
	version int
	changed chan struct{}
}

func (r *Room) Since() (int, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version, r.changed
}

func (r *Room) Bump() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	close(r.changed)
	r.changed = make(chan struct{})
}

type Server struct{ rooms []*Room }

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.URL.Query().Get("room"))
	if err != nil || id < 0 || id >= len(s.rooms) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	since, _ := strconv.Atoi(r.URL.Query().Get("since"))
	timeout := time.NewTimer(25 * time.Second)
	defer timeout.Stop()
	for {
		v, changed := s.rooms[id].Since()
		if v > since {
			_ = json.NewEncoder(w).Encode(map[string]int{"version": v})
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			w.WriteHeader(http.StatusNoContent)
			return
		case <-r.Context().Done():
			return
		}
	}
}

func poll(ctx context.Context, client *http.Client, url string, room int) {
	since := 0
	for ctx.Err() == nil {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s?room=%d&since=%d", url, room, since), nil)
		resp, err := client.Do(req)
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		var v struct{ Version int }
		if resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(&v) == nil {
			since = v.Version
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

func main() {
	ctx, _, done := start()
	defer done()
	s := &Server{}
	for range 50 {
		s.rooms = append(s.rooms, &Room{changed: make(chan struct{})})
	}
	url := serve(s)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 600}}
	for i := range 500 {
		go poll(ctx, client, url, i%50)
	}
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.rooms[i*7%50].Bump()
		}
	}
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String() + "/"
}

// start gives the context of the process and joins the operations centre.
func start() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	return ctx, a, func() { a.Close(); stop() }
}
