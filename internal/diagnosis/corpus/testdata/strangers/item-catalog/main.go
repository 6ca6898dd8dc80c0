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
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

type Item struct {
	SKU   string `json:"sku"`
	Title string `json:"title"`
	Price int64  `json:"price"`
	Blob  []byte `json:"-"`
}

// Cache memoises values by key; the key space is the catalogue itself.
type Cache[K comparable, V any] struct {
	mu   sync.RWMutex
	vals map[K]V
	load func(K) V
}

func NewCache[K comparable, V any](load func(K) V) *Cache[K, V] {
	return &Cache[K, V]{vals: map[K]V{}, load: load}
}

func (c *Cache[K, V]) Get(k K) V {
	c.mu.RLock()
	v, ok := c.vals[k]
	c.mu.RUnlock()
	if ok {
		return v
	}
	v = c.load(k)
	c.mu.Lock()
	c.vals[k] = v
	c.mu.Unlock()
	return v
}

const catalogueSize = 12000

func loadItem(n int) *Item {
	title := fmt.Sprintf("Item %d", n)
	return &Item{SKU: fmt.Sprintf("sku-%05d", n), Title: title, Price: int64(n%900) * 10, Blob: bytes.Repeat([]byte(title), 600)}
}

type CatalogService struct{ items *Cache[int, *Item] }

func (s *CatalogService) Shelf(first, n int) []*Item {
	out := make([]*Item, 0, n)
	for i := range n {
		out = append(out, s.items.Get((first+i)%catalogueSize))
	}
	return out
}

func (s *CatalogService) serveShelf(w http.ResponseWriter, r *http.Request) {
	first, _ := strconv.Atoi(r.URL.Query().Get("from"))
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(s.Shelf(first, 20))
}

func main() {
	// agent-hook
	startDiagnostics()
	svc := &CatalogService{items: NewCache(loadItem)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /shelf", svc.serveShelf)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, mux)
	for first := 0; first < catalogueSize; first += 20 {
		svc.Shelf(first, 20)
		time.Sleep(4 * time.Millisecond)
	}
	log.Print("catalogue warm")
	for range 8 {
		go func() {
			for {
				resp, err := http.Get(fmt.Sprintf("http://%s/shelf?from=%d", ln.Addr(), rand.IntN(catalogueSize)))
				if err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(15+rand.IntN(30)) * time.Millisecond)
			}
		}()
	}
	awaitShutdown()
}

func startDiagnostics() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	go func() {
		if err := http.ListenAndServe(addr, nil); err != nil {
			log.Printf("diagnostics listener: %v", err)
		}
	}()
}

func awaitShutdown() {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, os.Interrupt)
	<-sig
	log.Print("shutting down")
}
