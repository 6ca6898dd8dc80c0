package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

type order struct {
	ID    string            `json:"id"`
	Items map[string]int    `json:"items"`
	Meta  map[string]string `json:"meta"`
}

type Step interface {
	Name() string
	Run(ctx context.Context, o *order) error
}

type step struct {
	name string
	run  func(context.Context, *order) error
}

func (s step) Name() string                            { return s.name }
func (s step) Run(ctx context.Context, o *order) error { return s.run(ctx, o) }

type trail struct {
	sync.Mutex
	entries []entry
}

type entry struct {
	when  time.Time
	step  string
	order *order
}

func (t *trail) note(name string, o *order) {
	t.Lock()
	defer t.Unlock()
	t.entries = append(t.entries, entry{time.Now(), name, o}) // want: heap-growth
}

type saga struct {
	steps []Step
	trail *trail
}

func (s *saga) execute(ctx context.Context, o *order) error {
	for _, st := range s.steps {
		if err := st.Run(ctx, o); err != nil {
			return fmt.Errorf("%s: %w", st.Name(), err)
		}
	}
	s.trail.note("committed", o) // want: heap-growth
	return nil
}

type remote struct {
	base string
	hc   *http.Client
}

func (rm remote) ask(ctx context.Context, verb string, o *order) error {
	req, err := http.NewRequestWithContext(ctx, "POST", rm.base+"/"+verb, strings.NewReader(o.ID))
	if err != nil {
		return err
	}
	resp, err := rm.hc.Do(req) // want: downstream-wait
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s", verb, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func assemble(rm remote, t *trail) *saga {
	reserve := func(ctx context.Context, o *order) error {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(2)
		for range maps.Keys(o.Items) {
			g.Go(func() error { return rm.ask(ctx, "reserve", o) }) // want: downstream-wait
		}
		return g.Wait() // want: downstream-wait
	}
	capture := func(ctx context.Context, o *order) error { return rm.ask(ctx, "capture", o) } // want: downstream-wait
	return &saga{[]Step{step{"reserve", reserve}, step{"capture", capture}}, t}
}

func (s *saga) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o := &order{}
	if err := json.NewDecoder(r.Body).Decode(o); err != nil { // want: heap-growth
		http.Error(w, err.Error(), 400)
		return
	}
	if err := s.execute(r.Context(), o); err != nil {
		http.Error(w, err.Error(), 502)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func expose(h http.Handler) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Panic(err)
	}
	go func() { log.Panic(http.Serve(l, h)) }()
	return "http://" + l.Addr().String()
}

func warehouse(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	time.Sleep(220*time.Millisecond + rand.N(80*time.Millisecond))
	_, _ = io.WriteString(w, "ok")
}

func buyer(n int, url string) {
	receipt := strings.Repeat("terms and conditions apply; ", 900)
	for i := 0; ; i++ {
		raw, _ := json.Marshal(order{fmt.Sprintf("%d-%d", n, i), map[string]int{"gem": 3, "hat": 1},
			map[string]string{"agent": "client/4.1", "receipt": receipt}})
		if resp, err := http.Post(url, "application/json", strings.NewReader(string(raw))); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
}

func main() {
	go func() { log.Panic(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 100
	rm := remote{expose(http.HandlerFunc(warehouse)), &http.Client{Timeout: 5 * time.Second}}
	url := expose(assemble(rm, &trail{}))
	for n := range 48 {
		go buyer(n, url)
	}
	select {}
}
