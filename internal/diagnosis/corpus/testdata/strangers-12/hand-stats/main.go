// Command hand-stats keeps rolling statistics of running hands, in shards so
// that tables do not disturb one another.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

const (
	shardCount = 64
	windowSize = 1500
)

type shard[V any] struct {
	mu sync.Mutex
	m  map[ulid.ULID]V
	_  [48]byte
}

type Sharded[V any] struct {
	shards [shardCount]shard[V]
}

func NewSharded[V any]() *Sharded[V] {
	s := &Sharded[V]{}
	for i := range s.shards {
		s.shards[i].m = make(map[ulid.ULID]V)
	}
	return s
}

func (s *Sharded[V]) pick(id ulid.ULID) *shard[V] {
	return &s.shards[binary.BigEndian.Uint16(id[:2])%shardCount] // want: lock-contention
}

func (s *Sharded[V]) Do(id ulid.ULID, fn func(V) V) {
	sh := s.pick(id)
	sh.mu.Lock() // want: lock-contention
	defer sh.mu.Unlock()
	sh.m[id] = fn(sh.m[id])
}

// Each visits shard by shard; only the visited shard is locked.
func (s *Sharded[V]) Each(fn func(ulid.ULID, V)) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock() // want: lock-contention
		for id, v := range sh.m {
			fn(id, v)
		}
		sh.mu.Unlock()
	}
}

// Window holds the last reaction times of one hand.
type Window struct {
	samples  [windowSize]uint32
	n        int
	p50, p99 uint32
}

func (w *Window) Add(v uint32) *Window {
	if w == nil {
		w = &Window{}
	}
	w.samples[w.n%windowSize] = v
	w.n++
	return w
}

func (w *Window) rollup(scratch []uint32) {
	s := scratch[:copy(scratch, w.samples[:min(w.n, windowSize)])]
	if len(s) == 0 {
		return
	}
	slices.Sort(s)
	w.p50, w.p99 = s[len(s)/2], s[len(s)*99/100]
}

type API struct{ hands *Sharded[*Window] }

func (a *API) rollups(pause time.Duration) {
	scratch := make([]uint32, windowSize)
	for {
		a.hands.Each(func(_ ulid.ULID, w *Window) { w.rollup(scratch) })
		time.Sleep(pause)
	}
}

func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := ulid.ParseStrict(r.PathValue("hand"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var p50, p99 uint32
	a.hands.Do(id, func(win *Window) *Window {
		win = win.Add(rand.Uint32N(4000))
		p50, p99 = win.p50, win.p99
		return win
	})
	fmt.Fprintf(w, "%d %d\n", p50, p99)
}

func seat(base string, hands []ulid.ULID, cl *http.Client) {
	for {
		resp, err := cl.Post(base+"/hands/"+hands[rand.IntN(len(hands))].String()+"/action", "", nil)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		time.Sleep(time.Duration(40+rand.IntN(20)) * time.Millisecond)
	}
}

func main() {
	api := &API{hands: NewSharded[*Window]()}
	hands := make([]ulid.ULID, 1300)
	for i := range hands {
		hands[i] = ulid.Make()
		for range windowSize {
			api.hands.Do(hands[i], func(w *Window) *Window { return w.Add(rand.Uint32N(4000)) })
		}
	}
	go api.rollups(70 * time.Millisecond)

	mux := http.NewServeMux()
	mux.Handle("POST /hands/{hand}/action", api)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	cl := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 96}}
	for range 96 {
		go seat("http://"+ln.Addr().String(), hands, cl)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
