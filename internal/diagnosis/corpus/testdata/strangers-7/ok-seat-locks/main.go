// Command ok-seat-locks counts seats in one map under one short lock.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"hash/crc32"
	"log"
	"math/rand/v2"
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

type Counters struct {
	mu    sync.Mutex
	seats map[int]int
	peak  int
}

func (c *Counters) Take(room int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seats[room] >= 6 {
		return false
	}
	c.seats[room]++
	c.peak = max(c.peak, c.seats[room])
	return true
}

func (c *Counters) Leave(room int) {
	c.mu.Lock()
	if c.seats[room] > 0 {
		c.seats[room]--
	}
	c.mu.Unlock()
}

// Free says of the rooms how many seats they have left.
func (c *Counters) Free(rooms []int, free []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range rooms {
		free[i] = 6 - c.seats[r]
	}
}

type view struct {
	Room int    `json:"room"`
	Free int    `json:"free"`
	Text string `json:"text"`
}

func visit(c *Counters, rnd *rand.Rand, buf *bytes.Buffer) {
	room := rnd.IntN(400)
	ok := c.Take(room)
	buf.Reset()
	vs := make([]view, 0, 8)
	var rooms, free [8]int
	for i := range rooms {
		rooms[i] = (room + i) % 400
	}
	c.Free(rooms[:], free[:])
	for i, r := range rooms {
		vs = append(vs, view{Room: r, Free: free[i], Text: "room " + strconv.Itoa(r)})
	}
	_ = json.NewEncoder(buf).Encode(vs)
	_ = crc32.ChecksumIEEE(buf.Bytes())
	if ok {
		c.Leave(room)
	}
}

func main() {
	ctx, _, done := start()
	defer done()
	c := &Counters{seats: map[int]int{}}
	for w := range 20 {
		go func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 2))
			t := time.NewTicker(time.Duration(15+rnd.IntN(10)) * time.Millisecond)
			defer t.Stop()
			var buf bytes.Buffer
			for {
				select {
				case <-ctx.Done():
					return
				case <-t.C:
					for range 60 {
						visit(c, rnd, &buf)
					}
				}
			}
		}()
	}
	<-ctx.Done()
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
