package main

import (
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"
)

type standing struct {
	Player int   `json:"player"`
	Points int64 `json:"points"`
	Place  int   `json:"place"`
}

// board holds the points of a season, by player.
type board struct {
	mu     sync.Mutex
	points []int64
	wins   []int32
}

func newBoard(players int) *board {
	b := &board{points: make([]int64, players), wins: make([]int32, players)}
	for i := range b.points {
		b.points[i] = rand.Int64N(1_000_000)
	}
	return b
}

func (b *board) credit(player int, points int64) {
	b.mu.Lock() // want: lock-contention
	defer b.mu.Unlock()
	b.points[player] += points
	b.wins[player]++
}

// place counts who is ahead; draws go to the one with more wins.
func (b *board) place(player int) standing {
	b.mu.Lock() // want: lock-contention
	defer b.mu.Unlock()
	mine, wins := b.points[player], b.wins[player]
	ahead := 0
	for i, p := range b.points { // want: lock-contention
		if p > mine || (p == mine && b.wins[i] > wins) {
			ahead++
		}
	}
	return standing{Player: player, Points: mine, Place: ahead + 1}
}

type seasonAPI struct {
	boards map[string]*board
}

func (a *seasonAPI) board(r *http.Request) (*board, int, error) {
	b, ok := a.boards[r.URL.Query().Get("season")]
	if !ok {
		return nil, 0, fmt.Errorf("no such season")
	}
	var player int
	if _, err := fmt.Sscan(r.URL.Query().Get("player"), &player); err != nil || player < 0 || player >= len(b.points) {
		return nil, 0, fmt.Errorf("no such player")
	}
	return b, player, nil
}

func (a *seasonAPI) place(w http.ResponseWriter, r *http.Request) {
	b, player, err := a.board(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(b.place(player))
}

func (a *seasonAPI) credit(w http.ResponseWriter, r *http.Request) {
	b, player, err := a.board(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	b.credit(player, 25)
	w.WriteHeader(http.StatusNoContent)
}

func crowd(base string, n, players int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for i := range n {
		path := "credit"
		if i%3 == 0 {
			path = "place"
		}
		go func() {
			for {
				resp, err := client.Get(fmt.Sprintf("%s/%s?season=spring&player=%d", base, path, rand.IntN(players)))
				if err == nil {
					_ = resp.Body.Close()
				}
				time.Sleep(time.Duration(10+rand.IntN(20)) * time.Millisecond)
			}
		}()
	}
}

func main() {
	const players = 2_000_000
	api := &seasonAPI{boards: map[string]*board{"spring": newBoard(players)}}
	mux := http.NewServeMux()
	mux.HandleFunc("/place", api.place)
	mux.HandleFunc("/credit", api.credit)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	crowd("http://"+ln.Addr().String(), 120, players)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
