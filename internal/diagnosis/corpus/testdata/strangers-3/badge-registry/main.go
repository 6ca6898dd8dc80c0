// Command badge-registry knows the badges and which of them build on others.
package main

import (
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"time"
)

type badge struct {
	Name  string
	Needs []int
	Owned int
}

// table is a map for many readers.
type table[K comparable, V any] struct {
	mu   sync.RWMutex
	rows map[K]V
}

func (t *table[K, V]) get(k K) (v V, ok bool) {
	t.mu.RLock() // want: deadlock
	defer t.mu.RUnlock()
	v, ok = t.rows[k]
	return v, ok
}

func (t *table[K, V]) each(keys []K, f func(K, V)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, k := range keys {
		if v, ok := t.rows[k]; ok {
			f(k, v)
		}
	}
}

func (t *table[K, V]) update(k K, f func(V) V) {
	t.mu.Lock()
	t.rows[k] = f(t.rows[k])
	t.mu.Unlock()
}

type registry struct {
	badges *table[int, badge]
	page   *template.Template
}

type line struct {
	Name string
	From []string
}

func (r *registry) describe(ids []int) (out []line) {
	r.badges.each(ids, func(_ int, b badge) {
		l := line{Name: b.Name}
		for _, n := range b.Needs {
			if need, ok := r.badges.get(n); ok { // want: deadlock
				l.From = append(l.From, need.Name)
			}
		}
		out = append(out, l)
	})
	return out
}

func (r *registry) show(w http.ResponseWriter, _ *http.Request) {
	ids := make([]int, 40)
	for i := range ids {
		ids[i] = rand.IntN(800)
	}
	r.page.Execute(w, r.describe(ids))
}

func (r *registry) grant(w http.ResponseWriter, req *http.Request) {
	id, err := strconv.Atoi(req.PathValue("id"))
	if err != nil {
		http.NotFound(w, req)
		return
	}
	r.badges.update(id, func(b badge) badge { b.Owned++; return b })
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(5)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	r := &registry{&table[int, badge]{rows: map[int]badge{}},
		template.Must(template.New("").Parse("{{range .}}{{.Name}}:{{range .From}} {{.}}{{end}}\n{{end}}"))}
	for i := range 800 {
		r.badges.update(i, func(badge) badge {
			return badge{Name: strings.ToTitle(fmt.Sprint("badge-", i)), Needs: []int{i / 2, i / 3, i / 5}}
		})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /badges", r.show)
	mux.HandleFunc("POST /badges/{id}", r.grant)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	base := "http://" + l.Addr().String()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	done := func(res *http.Response, err error) {
		if err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	for range 24 {
		go func() {
			for {
				done(hc.Get(base + "/badges"))
				time.Sleep(rand.N(12 * time.Millisecond))
			}
		}()
	}
	for range 12 {
		go func() {
			for {
				done(hc.Post(fmt.Sprintf("%s/badges/%d", base, rand.IntN(800)), "", nil))
				time.Sleep(rand.N(8 * time.Millisecond))
			}
		}()
	}
	select {}
}
