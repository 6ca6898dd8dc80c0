package main

import (
	"bytes"
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

type ticket struct {
	Player int       `json:"player"`
	Rating int       `json:"rating"`
	Recent []float64 `json:"recent"`

	once  sync.Once
	found chan string
}

func (t *ticket) resolve(room string) {
	t.once.Do(func() {
		t.found <- room
		close(t.found)
	})
}

// bracket pairs the players of one range of ratings.
type bracket struct {
	patience time.Duration

	mu      sync.Mutex
	waiting *ticket
	rooms   int
}

func (b *bracket) enter(t *ticket) <-chan string {
	t.found = make(chan string, 1)
	time.AfterFunc(b.patience, func() { b.giveUp(t) }) // want: timer-leak

	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == nil {
		b.waiting = t
		return t.found
	}
	other := b.waiting
	b.waiting = nil
	b.rooms++
	room := fmt.Sprintf("room-%d-%d", t.Rating/100, b.rooms)
	other.resolve(room)
	t.resolve(room)
	return t.found
}

func (b *bracket) giveUp(t *ticket) {
	b.mu.Lock()
	if b.waiting == t {
		b.waiting = nil
	}
	b.mu.Unlock()
	t.resolve("")
}

type matchMaker struct {
	brackets []*bracket
}

func newMatchMaker(brackets int, patience time.Duration) *matchMaker {
	m := &matchMaker{}
	for range brackets {
		m.brackets = append(m.brackets, &bracket{patience: patience})
	}
	return m
}

func (m *matchMaker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := new(ticket)
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(t); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b := m.brackets[t.Rating%len(m.brackets)]
	select {
	case room := <-b.enter(t):
		if room == "" {
			http.Error(w, "nobody found", http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, room)
	case <-r.Context().Done():
	}
}

func queueUp(url string, n int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for i := range n {
		go func() {
			for {
				t := ticket{Player: i, Rating: 1000 + rand.IntN(4)*100, Recent: make([]float64, 200)}
				for k := range t.Recent {
					t.Recent[k] = float64(rand.IntN(100))
				}
				body, _ := json.Marshal(struct {
					Player int       `json:"player"`
					Rating int       `json:"rating"`
					Recent []float64 `json:"recent"`
				}{t.Player, t.Rating, t.Recent})
				resp, err := client.Post(url, "application/json", bytes.NewReader(body))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				time.Sleep(time.Duration(60+rand.IntN(60)) * time.Millisecond)
			}
		}()
	}
}

func main() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	mm := newMatchMaker(3, 20*time.Minute)
	go func() { log.Fatal(http.Serve(ln, mm)) }()
	queueUp("http://"+ln.Addr().String(), 60)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
