package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"
)

type position struct {
	Stake int64 `json:"stake"`
	Bets  int64 `json:"bets"`
}

type shard struct {
	mu    sync.Mutex
	byKey map[int]position
	_     [40]byte
}

// ledger adds up the open stakes of each player.
type ledger struct {
	shards [32]shard
}

func newLedger(players int) *ledger {
	l := new(ledger)
	for i := range l.shards {
		l.shards[i].byKey = make(map[int]position, players/len(l.shards)+1)
	}
	return l
}

func (l *ledger) shard(player int) *shard { return &l.shards[uint(player)%uint(len(l.shards))] }

func (l *ledger) place(player int, stake int64) position {
	s := l.shard(player)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.byKey[player]
	p.Stake += stake
	p.Bets++
	s.byKey[player] = p
	return p
}

func (l *ledger) settle(player int) position {
	s := l.shard(player)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.byKey[player]
	delete(s.byKey, player)
	return p
}

// total visits one shard after the other; it need not be exact.
func (l *ledger) total() (sum position) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for _, p := range s.byKey {
			sum.Stake += p.Stake
			sum.Bets += p.Bets
		}
		s.mu.Unlock()
	}
	return sum
}

type desk struct {
	ledger *ledger
	stat   sync.RWMutex
	last   position
}

func (d *desk) watch(every time.Duration) {
	for range time.Tick(every) {
		sum := d.ledger.total()
		d.stat.Lock()
		d.last = sum
		d.stat.Unlock()
	}
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var out position
	var player int
	switch r.URL.Path {
	case "/total":
		d.stat.RLock()
		out = d.last
		d.stat.RUnlock()
	case "/place", "/settle":
		if _, err := fmt.Sscan(r.URL.Query().Get("player"), &player); err != nil {
			http.Error(w, "bad player", http.StatusBadRequest)
			return
		}
		if r.URL.Path == "/place" {
			out = d.ledger.place(player, 50)
		} else {
			out = d.ledger.settle(player)
		}
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(out)
}

func main() {
	const players = 20_000
	d := &desk{ledger: newLedger(players)}
	go d.watch(500 * time.Millisecond)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, d)) }()

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 60}}
	base := "http://" + ln.Addr().String()
	for i := range 60 {
		go func() {
			for {
				url := fmt.Sprintf("%s/place?player=%d", base, rand.IntN(players))
				switch {
				case i == 0:
					url = base + "/total"
				case rand.IntN(3) == 0:
					url = fmt.Sprintf("%s/settle?player=%d", base, rand.IntN(players))
				}
				resp, err := client.Get(url)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				time.Sleep(time.Duration(30+rand.IntN(40)) * time.Millisecond)
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
