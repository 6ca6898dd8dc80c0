// Command ok-config-watch tells game servers when the configuration changes.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// versions wakes all who watch when there is a new one.
type versions[T any] struct {
	mu      sync.Mutex
	n       int
	val     T
	changed chan struct{}
}

func (v *versions[T]) set(val T) {
	v.mu.Lock()
	v.n, v.val = v.n+1, val
	close(v.changed)
	v.changed = make(chan struct{})
	v.mu.Unlock()
}

func (v *versions[T]) after(ctx context.Context, n int) (int, T) {
	for {
		v.mu.Lock()
		now, val, changed := v.n, v.val, v.changed
		v.mu.Unlock()
		if now > n {
			return now, val
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return now, val
		}
	}
}

type config struct {
	Rates map[string]float64
	Open  bool
}

func watch(v *versions[config]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("after"))
		ctx, cancel := context.WithTimeout(r.Context(), 25*time.Second)
		defer cancel()
		n, c := v.after(ctx, n)
		w.Header().Set("X-Version", strconv.Itoa(n))
		json.NewEncoder(w).Encode(c)
	}
}

func gameServer(hc *http.Client, url string) {
	for n := 0; ; {
		res, err := hc.Get(fmt.Sprintf("%s?after=%d", url, n))
		if err != nil {
			log.Print(err)
			time.Sleep(time.Second)
			continue
		}
		n, _ = strconv.Atoi(res.Header.Get("X-Version"))
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	v := &versions[config]{changed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /watch", watch(v))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	for range 220 {
		go gameServer(hc, "http://"+l.Addr().String()+"/watch")
	}
	for n := 1.0; ; n++ {
		v.set(config{map[string]float64{"xp": n, "gold": 1 / n}, true})
		time.Sleep(8 * time.Second)
	}
}
