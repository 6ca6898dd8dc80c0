// Command asset-cache serves sprites of the lobby out of memory.
package main

import (
	"context"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Tile struct {
	X, Y   int16
	Next   *Tile
	Colour [6]uint32
}

type Sprite struct {
	Name  string
	Tiles []*Tile
}

type Cache struct {
	mu      sync.RWMutex
	sprites map[string]*Sprite
}

func newSprite(name string, tiles int) *Sprite {
	s := &Sprite{Name: name, Tiles: make([]*Tile, 0, tiles)}
	var last *Tile
	for i := range tiles {
		last = &Tile{X: int16(i), Y: int16(i / 8), Next: last} // want: memory-limit-thrash
		s.Tiles = append(s.Tiles, last)
	}
	return s
}

func (c *Cache) Warm(n int) {
	for i := range n {
		s := newSprite("sprite/"+strconv.Itoa(i), 64)
		c.mu.Lock()
		c.sprites[s.Name] = s
		c.mu.Unlock()
	}
}

// Sheet draws some sprites onto one sheet.
func (c *Cache) Sheet(names []string) []byte {
	sheet := make([]byte, 32<<10) // want: memory-limit-thrash
	for i, n := range names {
		c.mu.RLock()
		s := c.sprites[n]
		c.mu.RUnlock()
		if s == nil {
			continue
		}
		for j, t := range s.Tiles {
			sheet[(i*64+j)%len(sheet)] ^= byte(t.X) + byte(t.Colour[0])
		}
	}
	return sheet
}

func memoryFromEnv() int64 {
	if v, err := strconv.ParseInt(os.Getenv("ASSET_MEMORY_MB"), 10, 64); err == nil {
		return v << 20
	}
	return 128 << 20
}

func main() {
	ctx, _, done := start()
	defer done()
	debug.SetMemoryLimit(memoryFromEnv()) // want: memory-limit-thrash
	c := &Cache{sprites: map[string]*Sprite{}}
	c.Warm(40_000)
	for w := range 4 {
		go func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 3))
			names := make([]string, 8)
			var sum int
			for ctx.Err() == nil {
				for i := range names {
					names[i] = "sprite/" + strconv.Itoa(rnd.IntN(40_000))
				}
				sum += len(c.Sheet(names))
				time.Sleep(300 * time.Microsecond)
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
