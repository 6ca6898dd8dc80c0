// Command friend-list answers who of a friends list is playing.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Status struct {
	Player int    `json:"player"`
	Room   string `json:"room"`
}

type StatusClient interface {
	Status(ctx context.Context, player int) (Status, error)
}

type restClient struct {
	base string
	http *http.Client
}

func get[T any](ctx context.Context, c *http.Client, url string) (v T, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return v, err
	}
	resp, err := c.Do(req) // want: downstream-wait
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(resp.Body).Decode(&v)
	return v, err
}

func (c *restClient) Status(ctx context.Context, player int) (Status, error) {
	return get[Status](ctx, c.http, c.base+"/status/"+strconv.Itoa(player)) // want: downstream-wait
}

// each appends the results of f for all of in.
func each[A, B any](in []A, f func(A) (B, error)) ([]B, error) {
	out := make([]B, 0, len(in))
	for _, a := range in {
		b, err := f(a) // want: downstream-wait
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

type Friends struct {
	of     func(player int) []int
	status StatusClient
}

func (f *Friends) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	player, _ := strconv.Atoi(r.URL.Query().Get("player"))
	list, err := each(f.of(player), func(p int) (Status, error) { // want: downstream-wait
		return f.status.Status(r.Context(), p) // want: downstream-wait
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	_ = json.NewEncoder(w).Encode(list)
}

func main() {
	ctx, _, done := boot()
	defer done()
	status := http.NewServeMux()
	status.HandleFunc("GET /status/{player}", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(25 * time.Millisecond)
		n, _ := strconv.Atoi(r.PathValue("player"))
		_ = json.NewEncoder(w).Encode(Status{Player: n, Room: "room-" + strconv.Itoa(n%40)})
	})
	f := &Friends{
		of: func(p int) []int {
			ids := make([]int, 40)
			for i := range ids {
				ids[i] = p*100 + i
			}
			return ids
		},
		status: &restClient{serve(status), &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}},
	}
	url := serve(f)
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	players(ctx, 60, 50*time.Millisecond, func(i int) error { return call(c, url+"/?player="+strconv.Itoa(i)) })
	<-ctx.Done()
}

func boot() (context.Context, *agent.Agent, func()) {
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

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// players runs n players that each call f and then wait.
func players(ctx context.Context, n int, pause time.Duration, f func(i int) error) {
	for i := range n {
		go func() {
			time.Sleep(time.Duration(rand.Int64N(int64(pause) + 1)))
			for ctx.Err() == nil {
				_ = f(i)
				time.Sleep(pause)
			}
		}()
	}
}

func call(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
