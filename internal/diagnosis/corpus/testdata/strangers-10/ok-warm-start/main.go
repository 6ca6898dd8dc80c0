package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/gob"
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
	"text/template"
	"time"

	"golang.org/x/sync/semaphore"
)

type Item struct {
	SKU    string
	Title  string
	Price  int
	Tags   []string
	Legend string
}

type Catalogue struct {
	bySKU map[string]*Item
	order []string
}

func pack(part, size int) ([]byte, error) {
	items := make([]Item, size)
	for i := range items {
		items[i] = Item{
			SKU:    fmt.Sprintf("P%02d-%05d", part, i),
			Title:  fmt.Sprintf("Banner of House %d", i),
			Price:  100 + i%900,
			Tags:   []string{"cosmetic", fmt.Sprintf("tier-%d", i%7)},
			Legend: fmt.Sprintf("%0128x", rand.Uint64()),
		}
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := gob.NewEncoder(z).Encode(items); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func unpack(b []byte) ([]Item, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	var items []Item
	return items, gob.NewDecoder(z).Decode(&items)
}

func load(ctx context.Context, parts, size int) (*Catalogue, error) {
	var (
		c   = &Catalogue{bySKU: make(map[string]*Item, parts*size)}
		mu  sync.Mutex
		wg  sync.WaitGroup
		sem = semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0)))
	)
	for p := range parts {
		if err := sem.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		wg.Go(func() {
			defer sem.Release(1)
			b, err := pack(p, size)
			if err != nil {
				log.Printf("part %d: %v", p, err)
				return
			}
			items, err := unpack(b)
			if err != nil {
				log.Printf("part %d: %v", p, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for i := range items {
				c.bySKU[items[i].SKU] = &items[i]
				c.order = append(c.order, items[i].SKU)
			}
		})
	}
	wg.Wait()
	return c, nil
}

var page = template.Must(template.New("item").Parse(
	`{{.SKU}} {{.Title}} {{.Price}}{{range .Tags}} #{{.}}{{end}}` + "\n"))

type shop struct {
	cat  *Catalogue
	bufs sync.Pool
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	it, ok := s.cat.bySKU[r.PathValue("sku")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	b := s.bufs.Get().(*bytes.Buffer)
	defer s.bufs.Put(b)
	b.Reset()
	if err := page.Execute(b, it); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	b.WriteTo(w)
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()

	begin := time.Now()
	cat, err := load(context.Background(), 20, 8_000)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("%d items after %s", len(cat.order), time.Since(begin).Round(time.Millisecond))

	mux := http.NewServeMux()
	mux.Handle("GET /items/{sku}", &shop{cat: cat, bufs: sync.Pool{New: func() any { return new(bytes.Buffer) }}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 20}}
	for range 20 {
		go func() {
			for {
				res, err := c.Get("http://" + l.Addr().String() + "/items/" + cat.order[rand.IntN(len(cat.order))])
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(time.Duration(10+rand.IntN(20)) * time.Millisecond)
			}
		}()
	}
	select {}
}
