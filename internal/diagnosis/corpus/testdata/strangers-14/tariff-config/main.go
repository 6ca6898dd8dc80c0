package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

type tariff struct {
	Version int                `json:"version"`
	Rake    map[string]float64 `json:"rake"`
}

// source reads the tariff of the platform; only one reload runs at a time.
type source struct {
	url    string
	client *http.Client

	mu      sync.Mutex
	version int

	current atomic.Pointer[tariff]
}

func (s *source) reload(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/?after=%d", s.url, s.version), nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	t := new(tariff)
	if err := json.NewDecoder(resp.Body).Decode(t); err != nil {
		return err
	}
	s.version = t.Version
	s.current.Store(t)
	return nil
}

func (s *source) keep(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := s.reload(ctx); err != nil {
				log.Printf("tariff: %v", err)
			}
		}
	}
}

type rakeAPI struct {
	tariffs *source
}

func (a *rakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := a.tariffs.current.Load()
	rake, ok := t.Rake[r.URL.Query().Get("game")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	fmt.Fprintf(w, `{"version":%d,"rake":%.4f}`, t.Version, rake)
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func headOffice() http.Handler {
	var version atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(700 * time.Millisecond)
		_ = json.NewEncoder(w).Encode(tariff{
			Version: int(version.Add(1)),
			Rake:    map[string]float64{"color": 0.02, "dice": 0.015 + rand.Float64()/100, "poker": 0.05},
		})
	})
}

func main() {
	s := &source{url: serve(headOffice()), client: &http.Client{}}
	ctx := context.Background()
	if err := s.reload(ctx); err != nil {
		log.Fatal(err)
	}
	go s.keep(ctx, time.Second)

	url := serve(&rakeAPI{tariffs: s})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 30}}
	games := [...]string{"color", "dice", "poker"}
	for range 30 {
		go func() {
			for {
				resp, err := client.Get(url + "/?game=" + games[rand.IntN(len(games))])
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				time.Sleep(time.Duration(40+rand.IntN(40)) * time.Millisecond)
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
