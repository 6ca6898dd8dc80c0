// Command turn-clock runs turn-based tables and ends those whose player went away.
package main

import (
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"
)

const awayAfter = 20 * time.Minute

type board [48][48]byte

type table struct {
	mu    sync.Mutex
	turn  int
	board board
	clock *time.Timer
	over  bool
}

func (t *table) abandon(turn int, last *board) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.turn == turn {
		t.over, t.board = true, *last
	}
}

func (t *table) move(x, y int, piece byte) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn++
	last, turn := t.board, t.turn
	t.board[y][x] = piece
	t.clock = time.AfterFunc(awayAfter, func() { t.abandon(turn, &last) }) // want: timer-leak
	return turn
}

type hall struct{ tables [80]table }

func (h *hall) move(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("table"))
	if err != nil || n < 0 || n >= len(h.tables) {
		http.NotFound(w, r)
		return
	}
	fmt.Fprintln(w, h.tables[n].move(rand.IntN(48), rand.IntN(48), byte(1+rand.IntN(6))))
}

func main() {
	runtime.SetBlockProfileRate(100_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	h := &hall{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /table/{table}/move", h.move)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	for i := range 80 {
		go func() {
			for {
				res, err := hc.Post(fmt.Sprintf("http://%s/table/%d/move", l.Addr(), i), "", nil)
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(100*time.Millisecond + rand.N(60*time.Millisecond))
			}
		}()
	}
	select {}
}
