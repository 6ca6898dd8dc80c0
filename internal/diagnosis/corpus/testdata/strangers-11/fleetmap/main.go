package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

type guarded[T any] struct {
	mu sync.Mutex
	v  T
}

func (g *guarded[T]) with(ctx context.Context, fn func(context.Context, *T) error) error {
	g.mu.Lock() // want: lock-held-across-io
	defer g.mu.Unlock()
	return fn(ctx, &g.v) // want: lock-held-across-io
}

type host struct {
	ID    string
	Slots int
}

type region struct {
	hosts []host
	seq   uint64
}

type placement struct {
	Region string `json:"region"`
	Host   string `json:"host"`
	Match  string `json:"match"`
	Seq    uint64 `json:"seq"`
}

type journal interface {
	Record(ctx context.Context, p placement) error
}

type remoteJournal struct {
	base string
	hc   *http.Client
}

func (j *remoteJournal) Record(ctx context.Context, p placement) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return j.put(ctx, fmt.Sprintf("%s/placements/%d", j.base, p.Seq), raw)
}

func (j *remoteJournal) put(ctx context.Context, url string, raw []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	resp, err := j.hc.Do(req) // want: lock-held-across-io
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

var errFull = errors.New("no capacity")

type allocator struct {
	regions map[string]*guarded[region]
	journal journal
}

func (a *allocator) place(ctx context.Context, name, match string) (out placement, err error) {
	g, ok := a.regions[name]
	if !ok {
		return out, errFull
	}
	err = g.with(ctx, func(ctx context.Context, r *region) error { // want: lock-held-across-io
		best := -1
		for i := range r.hosts {
			if best < 0 || r.hosts[i].Slots > r.hosts[best].Slots {
				best = i
			}
		}
		if best < 0 {
			return errFull
		}
		r.seq++
		out = placement{Region: name, Host: r.hosts[best].ID, Match: match, Seq: r.seq}
		if err := a.journal.Record(ctx, out); err != nil { // want: lock-held-across-io
			return err
		}
		if r.hosts[best].Slots--; r.hosts[best].Slots <= 0 {
			r.hosts[best].Slots = 64
		}
		return nil
	})
	return out, err
}

func (a *allocator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, err := a.place(r.Context(), r.PathValue("region"), r.URL.Query().Get("match"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_ = json.NewEncoder(w).Encode(p)
}

func listen(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func main() {
	runtime.SetMutexProfileFraction(5)
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()

	store := http.NewServeMux()
	store.HandleFunc("PUT /placements/{seq}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(9*time.Millisecond + rand.N(6*time.Millisecond))
		w.WriteHeader(http.StatusNoContent)
	})
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	a := &allocator{regions: map[string]*guarded[region]{}, journal: &remoteJournal{listen(store), hc}}
	names := []string{"tyo", "fra"}
	for _, n := range names {
		g := &guarded[region]{}
		for i := range 40 {
			g.v.hosts = append(g.v.hosts, host{fmt.Sprintf("%s-%02d", n, i), 64})
		}
		a.regions[n] = g
	}
	mux := http.NewServeMux()
	mux.Handle("POST /regions/{region}/matches", a)
	base := listen(mux)
	for i := range 28 {
		go func() {
			for n := 0; ; n++ {
				url := fmt.Sprintf("%s/regions/%s/matches?match=%d-%d", base, names[i%2], i, n)
				if resp, err := hc.Post(url, "", nil); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(rand.N(4 * time.Millisecond))
			}
		}()
	}
	select {}
}
