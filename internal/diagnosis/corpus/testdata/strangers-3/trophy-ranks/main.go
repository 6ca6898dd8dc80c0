// Command trophy-ranks serves the season's top lists per region.
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
	"sort"
	"strconv"
	"sync"
	"time"
)

type Trophy struct {
	Player string
	Region uint8
	Points int32
	Since  int64
}

type Season struct {
	mu   sync.RWMutex
	rows []Trophy
}

func (s *Season) Award(i int, points int32) {
	s.mu.Lock()
	s.rows[i].Points += points
	s.rows[i].Since = time.Now().UnixNano()
	s.mu.Unlock()
}

// Top returns the first n of a region, best first.
func (s *Season) Top(region uint8, n int) []Trophy {
	s.mu.RLock()
	mine := make([]Trophy, 0, len(s.rows)/4)
	for _, t := range s.rows {
		if t.Region == region {
			mine = append(mine, t)
		}
	}
	s.mu.RUnlock()
	sort.Slice(mine, func(i, j int) bool { // want: cpu-hot-path
		a, b := &mine[i], &mine[j]
		if a.Points != b.Points {
			return a.Points > b.Points // want: cpu-hot-path
		}
		if a.Since != b.Since {
			return a.Since < b.Since
		}
		return a.Player < b.Player
	})
	return append([]Trophy(nil), mine[:min(n, len(mine))]...)
}

type api struct{ *Season }

func (a api) top(w http.ResponseWriter, r *http.Request) {
	region, _ := strconv.Atoi(r.PathValue("region"))
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(a.Top(uint8(region), 20))
}

func main() {
	addr := "127.0.0.1:0"
	if s := os.Getenv("PPROF_ADDR"); s != "" {
		addr = s
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	s := &Season{}
	for i := range 240_000 {
		s.rows = append(s.rows, Trophy{fmt.Sprintf("p%06d", i), uint8(i % 4), rand.Int32N(40_000), int64(i)})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /top/{region}", api{s}.top)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	go func() {
		for range time.Tick(5 * time.Millisecond) {
			s.Award(rand.IntN(len(s.rows)), rand.Int32N(30))
		}
	}()
	for i := range 8 {
		go func() {
			for {
				began := time.Now()
				res, err := http.Get(fmt.Sprintf("http://%s/top/%d", l.Addr(), i%4))
				if err != nil {
					log.Print(err)
					time.Sleep(time.Second)
					continue
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				time.Sleep(time.Since(began) * 3)
			}
		}()
	}
	select {}
}
