package main

import (
	"flag"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

type Point struct {
	Minute int
	Home   float64
	Away   float64
	Next   *Point
}

type Curve struct {
	Match string
	Head  *Point
}

func (c *Curve) At(minute int) (home, away float64) {
	for p := c.Head; p != nil; p = p.Next {
		if p.Minute >= minute {
			return p.Home, p.Away
		}
	}
	return 1, 1
}

func build(match int) *Curve {
	c := &Curve{Match: "m" + strconv.Itoa(match)}
	tail := &c.Head
	lean := rand.Float64()
	for m := range 95 {
		*tail = &Point{Minute: m, Home: 1 + lean*math.Exp(float64(m)/95), Away: 2 - lean}
		tail = &(*tail).Next
	}
	return c
}

type Book struct {
	mu     sync.RWMutex
	curves []*Curve
}

func (b *Book) Get(i int) *Curve {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.curves[i%len(b.curves)]
}

func (b *Book) Replace(i int, c *Curve) {
	b.mu.Lock()
	b.curves[i%len(b.curves)] = c
	b.mu.Unlock()
}

func Preload(n int) *Book {
	b := &Book{curves: make([]*Curve, n)}
	for i := range b.curves {
		b.curves[i] = build(i)
	}
	return b
}

type size int64

func (s *size) String() string { return fmt.Sprintf("%dMiB", int64(*s)>>20) }

func (s *size) Set(v string) error {
	n, err := strconv.ParseInt(strings.TrimSuffix(v, "MiB"), 10, 64)
	*s = size(n << 20)
	return err
}

type settings struct {
	memory  size
	matches int
	desks   int
}

func parse() settings {
	cfg := settings{memory: 120 << 20, matches: 42_000, desks: 6} // want: memory-limit-thrash
	flag.Var(&cfg.memory, "memory", "soft memory budget of the process")
	flag.IntVar(&cfg.matches, "matches", cfg.matches, "matches kept ready")
	flag.IntVar(&cfg.desks, "desks", cfg.desks, "quoting desks")
	flag.Parse()
	return cfg
}

type quote struct {
	match      string
	home, away string
}

func desk(b *Book, every time.Duration, out func([]quote)) {
	t := time.NewTicker(every)
	defer t.Stop()
	for range t.C {
		sheet := make([]quote, 0, 40)
		for range 40 {
			c := b.Get(rand.IntN(1 << 20))
			h, a := c.At(rand.IntN(90))
			sheet = append(sheet, quote{c.Match, strconv.FormatFloat(h, 'f', 2, 64), strconv.FormatFloat(a, 'f', 2, 64)})
		}
		out(sheet)
	}
}

func main() {
	cfg := parse()
	debug.SetMemoryLimit(int64(cfg.memory)) // want: memory-limit-thrash
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()

	book := Preload(cfg.matches)
	var last sync.Map
	for i := range cfg.desks {
		go desk(book, 4*time.Millisecond, func(q []quote) { last.Store(i, q) })
	}
	for t := time.NewTicker(2 * time.Millisecond); ; <-t.C {
		i := rand.IntN(cfg.matches)
		book.Replace(i, build(i))
	}
}
