// Command ok-score-tally counts points; the boards are read ten times a second.
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
	"sync"
	"time"
)

type tally struct {
	sync.Mutex
	points map[uint32]int64
	total  int64
}

func (t *tally) add(player uint32, n int64) {
	t.Lock()
	t.points[player] += n
	t.total += n
	t.Unlock()
}

func (t *tally) sum() int64 {
	t.Lock()
	defer t.Unlock()
	return t.total
}

func main() {
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	t := &tally{points: make(map[uint32]int64, 20_000)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /total", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, t.sum()) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	// Twelve game loops report what happened in their last 5 ms.
	for i := range 12 {
		go func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 9))
			for range time.Tick(5 * time.Millisecond) {
				for range 900 {
					t.add(rnd.Uint32N(20_000), 3)
				}
			}
		}()
	}
	for range time.Tick(100 * time.Millisecond) {
		res, err := http.Get("http://" + l.Addr().String() + "/total")
		if err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
}
