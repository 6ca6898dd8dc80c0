package main

import (
	"container/list"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

type entry[K comparable, V any] struct {
	key   K
	value V
	until time.Time
}

type LRU[K comparable, V any] struct {
	mu    sync.Mutex
	cap   int
	ttl   time.Duration
	order *list.List
	index map[K]*list.Element
}

func NewLRU[K comparable, V any](n int, ttl time.Duration) *LRU[K, V] {
	return &LRU[K, V]{cap: n, ttl: ttl, order: list.New(), index: make(map[K]*list.Element, n)}
}

func (c *LRU[K, V]) Get(k K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.index[k]
	if !ok {
		return v, false
	}
	it := e.Value.(*entry[K, V])
	if time.Now().After(it.until) {
		c.order.Remove(e)
		delete(c.index, k)
		return v, false
	}
	c.order.MoveToFront(e)
	return it.value, true
}

func (c *LRU[K, V]) Put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.index[k]; ok {
		e.Value = &entry[K, V]{k, v, time.Now().Add(c.ttl)}
		c.order.MoveToFront(e)
		return
	}
	c.index[k] = c.order.PushFront(&entry[K, V]{k, v, time.Now().Add(c.ttl)})
	if c.order.Len() > c.cap {
		last := c.order.Back()
		c.order.Remove(last)
		delete(c.index, last.Value.(*entry[K, V]).key)
	}
}

type Profile struct {
	ID     int      `json:"id"`
	Nick   string   `json:"nick"`
	Level  int      `json:"level"`
	Badges []string `json:"badges"`
	Bio    string   `json:"bio"`
}

type Source interface {
	Load(id int) (*Profile, error)
}

type archive struct{ bio string }

func (a archive) Load(id int) (*Profile, error) {
	time.Sleep(2 * time.Millisecond)
	return &Profile{ID: id, Nick: "nick" + strconv.Itoa(id), Level: id % 80,
		Badges: []string{"founder", "s" + strconv.Itoa(id%9)}, Bio: fmt.Sprintf(a.bio, id)}, nil
}

type Profiles struct {
	cache *LRU[int, *Profile]
	src   Source
	once  singleflight.Group
}

func (p *Profiles) Find(id int) (*Profile, error) {
	if v, ok := p.cache.Get(id); ok {
		return v, nil
	}
	v, err, _ := p.once.Do(strconv.Itoa(id), func() (any, error) {
		v, err := p.src.Load(id)
		if err == nil {
			p.cache.Put(id, v)
		}
		return v, err
	})
	if err != nil {
		return nil, err
	}
	return v.(*Profile), nil
}

func (p *Profiles) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		http.Error(w, "id", http.StatusBadRequest)
		return
	}
	v, err := p.Find(id)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	json.NewEncoder(w).Encode(v)
}

func visitor(c *http.Client, base string, zipf *rand.Zipf) {
	for {
		res, err := c.Get(base + strconv.FormatUint(zipf.Uint64(), 10))
		if err != nil {
			log.Print(err)
			time.Sleep(time.Second)
			continue
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		time.Sleep(time.Duration(20+rand.IntN(20)) * time.Millisecond)
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()
	p := &Profiles{
		cache: NewLRU[int, *Profile](20_000, 10*time.Minute),
		src:   archive{bio: "player %d likes long walks in the arcade" + fmt.Sprint(make([]int, 200))},
	}
	for id := range 20_000 {
		v := &Profile{ID: id, Nick: "nick" + strconv.Itoa(id), Level: id % 80, Bio: fmt.Sprintf("player %d %s", id, make([]byte, 300))}
		p.cache.Put(id, v)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /profiles/{id}", p)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for i := range 40 {
		z := rand.NewZipf(rand.New(rand.NewPCG(uint64(i), 5)), 1.1, 40, 30_000)
		go visitor(c, "http://"+l.Addr().String()+"/profiles/", z)
	}
	select {}
}
