// Command ok-season-open lets everybody in when the season opens, and is calm after.
package main

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

type session struct {
	Player  string
	Opened  time.Time
	Loadout [64]uint16
}

type gate struct {
	mu   sync.Mutex
	open map[string]*session
}

func (g *gate) enter(w http.ResponseWriter, r *http.Request) {
	who := r.PathValue("player")
	sum := sha512.Sum512([]byte(who))
	for range 2000 {
		sum = sha512.Sum512(sum[:])
	}
	s := &session{Player: who, Opened: time.Now()}
	g.mu.Lock()
	g.open[hex.EncodeToString(sum[:8])] = s
	g.mu.Unlock()
	json.NewEncoder(w).Encode(s)
}

func (g *gate) count(w http.ResponseWriter, _ *http.Request) {
	g.mu.Lock()
	n := len(g.open)
	g.mu.Unlock()
	fmt.Fprintln(w, n)
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	g := &gate{open: map[string]*session{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /enter/{player}", g.enter)
	mux.HandleFunc("GET /count", g.count)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)
	base := "http://" + l.Addr().String()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	call := func(method, path string) error {
		req, err := http.NewRequest(method, base+path, strings.NewReader(""))
		if err != nil {
			return err
		}
		res, err := hc.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		return err
	}

	until, stop := context.WithTimeout(context.Background(), 2500*time.Millisecond)
	defer stop()
	rush, _ := errgroup.WithContext(until)
	for i := range 24 {
		rush.Go(func() error {
			for n := 0; until.Err() == nil; n++ {
				if err := call(http.MethodPost, fmt.Sprintf("/enter/p%d-%d", i, n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := rush.Wait(); err != nil {
		log.Print(err)
	}
	for {
		call(http.MethodGet, "/count")
		if rand.IntN(20) == 0 {
			call(http.MethodPost, fmt.Sprintf("/enter/p%d-%d", rand.IntN(24), rand.IntN(50)))
		}
		time.Sleep(50 * time.Millisecond)
	}
}
