// presence-tracker knows who is online: players send a sign of life and are
// taken off when it fails to come.
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
	"sync"
	"sync/atomic"
	"time"
)

type status uint8

const (
	online status = iota
	playing
)

type mark struct {
	timer *time.Timer
	state status
	seen  time.Time
}

type shard struct {
	mu    sync.Mutex
	marks map[uint32]*mark
}

// tracker spreads the players over shards; each player has one timer.
type tracker struct {
	shards  [32]shard
	timeout time.Duration
	joined  atomic.Int64
	left    atomic.Int64
}

func newTracker(timeout time.Duration) *tracker {
	t := &tracker{timeout: timeout}
	for i := range t.shards {
		t.shards[i].marks = make(map[uint32]*mark)
	}
	return t
}

func (t *tracker) shard(player uint32) *shard { return &t.shards[player%uint32(len(t.shards))] }

// beat notes a sign of life.
func (t *tracker) beat(player uint32, st status) {
	s := t.shard(player)
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.marks[player]; ok {
		m.state, m.seen = st, now
		m.timer.Reset(t.timeout)
		return
	}
	s.marks[player] = &mark{state: st, seen: now, timer: time.AfterFunc(t.timeout, func() { t.expire(player) })}
	t.joined.Add(1)
}

func (t *tracker) leave(player uint32) {
	s := t.shard(player)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.marks[player]; ok {
		m.timer.Stop()
		delete(s.marks, player)
		t.left.Add(1)
	}
}

func (t *tracker) expire(player uint32) {
	s := t.shard(player)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.marks[player]; ok && time.Since(m.seen) >= t.timeout {
		delete(s.marks, player)
		t.left.Add(1)
	}
}

func (t *tracker) count() (n, busy int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.marks)
		for _, m := range s.marks {
			if m.state == playing {
				busy++
			}
		}
		s.mu.Unlock()
	}
	return n, busy
}

// crowd stands for the players: they beat, some leave, some just go away.
func crowd(t *tracker, players uint32) {
	for range time.Tick(10 * time.Millisecond) {
		for range 20 {
			p := rand.Uint32N(players)
			switch rand.IntN(40) {
			case 0:
				t.leave(p)
			default:
				t.beat(p, status(rand.IntN(2)))
			}
		}
	}
}

func main() {
	const players = 20_000
	t := newTracker(30 * time.Second)
	for p := range uint32(players) {
		t.beat(p, online)
	}
	go crowd(t, players)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /online", func(w http.ResponseWriter, r *http.Request) {
		n, busy := t.count()
		fmt.Fprintf(w, `{"online":%d,"playing":%d,"joined":%d,"left":%d}`, n, busy, t.joined.Load(), t.left.Load())
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	hc := &http.Client{Timeout: time.Second}
	go func() {
		for range time.Tick(100 * time.Millisecond) {
			resp, err := hc.Get("http://" + ln.Addr().String() + "/online")
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
