// Command ok-notice-poll hands out notices by long polling: a request waits
// until there is something new or 20 seconds are over.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
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

type Notice struct {
	Seq  int    `json:"seq"`
	Text string `json:"text"`
}

// Board keeps the last notices of a channel and wakes who waits for the next.
type Board struct {
	mu    sync.Mutex
	last  []Notice
	seq   int
	fresh chan struct{}
}

func NewBoard() *Board { return &Board{fresh: make(chan struct{})} }

func (b *Board) Post(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	b.last = append(b.last, Notice{b.seq, text})
	if len(b.last) > 20 {
		b.last = append([]Notice(nil), b.last[len(b.last)-20:]...)
	}
	close(b.fresh)
	b.fresh = make(chan struct{})
}

// Since gives what came after seq, and what to wait for if that is nothing.
func (b *Board) Since(seq int) ([]Notice, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Notice
	for _, n := range b.last {
		if n.Seq > seq {
			out = append(out, n)
		}
	}
	return out, b.fresh
}

func (b *Board) Wait(ctx context.Context, seq int) []Notice {
	for {
		out, fresh := b.Since(seq)
		if len(out) > 0 {
			return out
		}
		select {
		case <-fresh:
		case <-ctx.Done():
			return nil
		}
	}
}

type PollHandler struct {
	boards map[string]*Board
	hold   time.Duration
}

func (h *PollHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, ok := h.boards[r.URL.Query().Get("channel")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	seq, _ := strconv.Atoi(r.URL.Query().Get("since"))
	ctx, cancel := context.WithTimeout(r.Context(), h.hold)
	defer cancel()
	notices := b.Wait(ctx, seq)
	if len(notices) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	_ = json.NewEncoder(w).Encode(notices)
}

type follower struct {
	base, channel string
	client        *http.Client
}

func (f *follower) follow(ctx context.Context) {
	seq := 0
	for ctx.Err() == nil {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/notices?channel=%s&since=%d", f.base, f.channel, seq), nil)
		resp, err := f.client.Do(req)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		var ns []Notice
		if resp.StatusCode == http.StatusOK {
			_ = json.NewDecoder(resp.Body).Decode(&ns)
		}
		resp.Body.Close()
		if len(ns) > 0 {
			seq = ns[len(ns)-1].Seq
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
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
	defer a.Close()

	h := &PollHandler{boards: map[string]*Board{}, hold: 20 * time.Second}
	var names []string
	for _, n := range []string{"maintenance", "jackpot", "events", "guild"} {
		h.boards[n] = NewBoard()
		names = append(names, n)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(ln) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 400}}
	for i := range 350 {
		f := &follower{base: "http://" + ln.Addr().String(), channel: names[i%4], client: client}
		go f.follow(ctx)
	}
	for n := 0; ctx.Err() == nil; n++ {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(600+rand.IntN(1800)) * time.Millisecond):
			h.boards[names[rand.IntN(4)]].Post(fmt.Sprintf("notice %d", n))
		}
	}
	_ = srv.Close()
}
