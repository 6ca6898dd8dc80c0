// Command ok-static-world holds the map of the world and answers what is where.
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
	"runtime"
	"time"
)

type tile struct {
	Terrain  uint8
	Height   int16
	Label    string
	Creature *creature
}

type creature struct {
	Kind  string
	Level int
}

type atlas struct {
	w, h  int
	tiles []tile
}

func load(w, h int) *atlas {
	a := &atlas{w, h, make([]tile, w*h)}
	kinds := []string{"wolf", "boar", "golem", "wisp"}
	for i := range a.tiles {
		t := &a.tiles[i]
		t.Terrain, t.Height = uint8(rand.IntN(9)), int16(rand.IntN(3000))
		if i%5 == 0 {
			t.Creature = &creature{kinds[rand.IntN(4)], rand.IntN(60)}
		}
		if i%50 == 0 {
			t.Label = fmt.Sprintf("site-%d", i)
		}
	}
	return a
}

func (a *atlas) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x, y := rand.IntN(a.w-16), rand.IntN(a.h-16)
	rows := make([][]tile, 16)
	for i := range rows {
		at := (y+i)*a.w + x
		rows[i] = a.tiles[at : at+16]
	}
	json.NewEncoder(w).Encode(rows)
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	a := load(2000, 1500)
	runtime.GC()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, a)
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	for range 12 {
		go func() {
			for {
				res, err := hc.Get("http://" + l.Addr().String())
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(rand.N(30 * time.Millisecond))
			}
		}()
	}
	select {}
}
