// Command shard-leader is one of two replicas of a leader-board shard. The
// leader holds a file lock on the shared volume; the other replica waits for
// it and serves reads meanwhile.
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
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

type Score struct {
	Player string `json:"player"`
	Points int    `json:"points"`
}

// Election waits for the lock of the shard; Won is closed when it is ours.
type Election struct {
	path string
	Won  chan struct{}
	file *os.File
}

func Campaign(path string) *Election {
	e := &Election{path: path, Won: make(chan struct{})}
	go e.run()
	return e
}

func (e *Election) run() {
	f, err := os.OpenFile(e.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		log.Printf("election: %v", err)
		return
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err == nil {
			break
		}
		if err != syscall.EINTR {
			log.Printf("election: %v", err)
			time.Sleep(time.Second)
		}
	}
	e.file = f
	close(e.Won)
}

func (e *Election) Leader() bool {
	select {
	case <-e.Won:
		return true
	default:
		return false
	}
}

type Board struct {
	election *Election
	top      atomic.Pointer[[]Score]
}

// refresh takes over what the leader has published.
func (b *Board) refresh(every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		next := make([]Score, 100)
		for i := range next {
			next[i] = Score{Player: fmt.Sprintf("p%03d", i), Points: rand.IntN(10_000)}
		}
		slices.SortFunc(next, func(x, y Score) int { return y.Points - x.Points })
		b.top.Store(&next)
		select {
		case <-t.C:
		case <-b.election.Won:
			log.Print("we lead now")
			return
		}
	}
}

func (b *Board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && !b.election.Leader() {
		http.Error(w, "follower", http.StatusMisdirectedRequest)
		return
	}
	top := *b.top.Load()
	_ = json.NewEncoder(w).Encode(top[:min(10, len(top))])
}

func reader(url string) {
	for range time.Tick(12 * time.Millisecond) {
		resp, err := http.Get(url)
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

func main() {
	dir, err := os.MkdirTemp("", "shard")
	if err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, "leader.lock")
	other := Campaign(path) // the replica that came first
	<-other.Won

	b := &Board{election: Campaign(path)}
	b.top.Store(&[]Score{})
	go b.refresh(500 * time.Millisecond)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, b)) }()
	for range 2 {
		go reader("http://" + ln.Addr().String() + "/top")
	}
	err = http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	log.Fatal(err, other.Leader())
}
