// Command ok-feed-watch follows the feeds of its partners, each of which answers when it has something.
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
	"net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Feed struct {
	name   string
	url    string
	cursor int
	client *http.Client
	odds   *odds
}

type odds struct {
	mu  sync.RWMutex
	cur map[string]float64
}

func (o *odds) set(k string, v float64) {
	o.mu.Lock()
	o.cur[k] = v
	o.mu.Unlock()
}

func (o *odds) all() map[string]float64 {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return maps.Clone(o.cur)
}

type change struct {
	Cursor int     `json:"cursor"`
	Match  string  `json:"match"`
	Odds   float64 `json:"odds"`
}

func (f *Feed) next(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s?wait=8s&cursor=%d", f.url, f.cursor), nil)
	if err != nil {
		return err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer func() {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}()
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	var c change
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil {
		return err
	}
	f.cursor = c.Cursor
	f.odds.set(f.name+"/"+c.Match, c.Odds)
	return nil
}

func (f *Feed) Follow(ctx context.Context) {
	for ctx.Err() == nil {
		if err := f.next(ctx); err != nil && ctx.Err() == nil {
			log.Printf("feed %s: %v", f.name, err)
			time.Sleep(time.Second)
		}
	}
}

func partner(w http.ResponseWriter, r *http.Request) {
	wait, _ := time.ParseDuration(r.FormValue("wait"))
	cursor, _ := strconv.Atoi(r.FormValue("cursor"))
	news := time.NewTimer(time.Duration(1000+rand.IntN(9000)) * time.Millisecond)
	defer news.Stop()
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case <-r.Context().Done():
	case <-limit.C:
		w.WriteHeader(http.StatusNoContent)
	case <-news.C:
		_ = json.NewEncoder(w).Encode(change{cursor + 1, "m" + strconv.Itoa(rand.IntN(40)), 1 + rand.Float64()})
	}
}

func main() {
	if addr := os.Getenv("FEED_WATCH_PARTNER"); addr != "" {
		log.Fatal(http.ListenAndServe(addr, http.HandlerFunc(partner)))
	}
	ctx, _, done := start()
	defer done()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FEED_WATCH_PARTNER="+addr)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for range 50 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	o := &odds{cur: map[string]float64{}}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	for i := range 24 {
		go (&Feed{name: "partner-" + strconv.Itoa(i), url: "http://" + addr + "/", client: client, odds: o}).Follow(ctx)
	}
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			_, _ = json.Marshal(o.all())
		}
	}
}

// start gives the context of the process and joins the operations centre.
func start() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	return ctx, a, func() { a.Close(); stop() }
}
