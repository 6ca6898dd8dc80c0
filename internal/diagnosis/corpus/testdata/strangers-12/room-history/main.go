// Command room-history serves table state, accepts bets and lets spectators
// download the hand history of a running room.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync"
	"time"
)

type Hand struct {
	Seq     int               `json:"seq"`
	Board   []string          `json:"board"`
	Actions map[string]string `json:"actions"`
	Pot     int64             `json:"pot"`
}

type Room struct {
	ID string

	mu      sync.RWMutex
	stakes  map[string]int64
	pot     int64
	history []Hand
}

func NewRoom(id string, hands int) *Room {
	r := &Room{ID: id, stakes: map[string]int64{}}
	for i := range hands {
		acts := make(map[string]string, 8)
		for s := range 8 {
			acts[fmt.Sprintf("seat-%d", s)] = strings.Repeat("raise 120;call;", 6)
		}
		r.history = append(r.history, Hand{Seq: i, Board: []string{"Ah", "Kd", "7c", "2s", "Ts"}, Actions: acts, Pot: int64(i * 37)})
	}
	return r
}

func (r *Room) Bet(player string, amount int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stakes[player] += amount
	r.pot += amount
	return r.pot
}

func (r *Room) State() map[string]any {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return map[string]any{"room": r.ID, "pot": r.pot, "players": len(r.stakes)}
}

// ExportTo writes the history as newline separated JSON.
func (r *Room) ExportTo(w io.Writer) error {
	enc := json.NewEncoder(w)
	r.mu.RLock() // want: lock-held-across-io
	defer r.mu.RUnlock()
	for i := range r.history {
		if err := enc.Encode(&r.history[i]); err != nil { // want: lock-held-across-io
			return err
		}
	}
	return nil
}

func routes(r *Room) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bet", func(w http.ResponseWriter, req *http.Request) {
		pot := r.Bet(req.URL.Query().Get("player"), 50)
		fmt.Fprintf(w, `{"pot":%d}`, pot)
	})
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, req *http.Request) {
		_ = json.NewEncoder(w).Encode(r.State())
	})
	mux.HandleFunc("GET /history", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		_ = r.ExportTo(w)
	})
	return mux
}

// mobileSpectator downloads the history over a thin connection.
func mobileSpectator(addr string) {
	for {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		_ = c.(*net.TCPConn).SetReadBuffer(32 << 10)
		fmt.Fprintf(c, "GET /history HTTP/1.1\r\nHost: room\r\nConnection: close\r\n\r\n")
		buf := make([]byte, 48<<10)
		for {
			if _, err := c.Read(buf); err != nil {
				break
			}
			time.Sleep(30 * time.Millisecond)
		}
		c.Close()
		time.Sleep(time.Duration(200+rand.IntN(200)) * time.Millisecond)
	}
}

func player(base string, id int) {
	cl := &http.Client{Timeout: 20 * time.Second}
	for {
		var resp *http.Response
		var err error
		if id%3 == 0 {
			resp, err = cl.Post(fmt.Sprintf("%s/bet?player=p%d", base, id), "application/json", nil)
		} else {
			resp, err = cl.Get(base + "/state")
		}
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		time.Sleep(80 * time.Millisecond)
	}
}

func main() {
	room := NewRoom("r-7781", 4200)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: routes(room), ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(64 << 10)
		return ctx
	}}
	go func() { log.Fatal(srv.Serve(ln)) }()
	for range 3 {
		go mobileSpectator(ln.Addr().String())
	}
	for i := range 30 {
		go player("http://"+ln.Addr().String(), i)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
