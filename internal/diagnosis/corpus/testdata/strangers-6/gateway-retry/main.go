// Command gateway-retry is the gateway in front of the game service: it drops
// repeated commands and tries again when the game service is busy.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// retrying tries a request again while the upstream says that it is busy.
type retrying struct {
	next  http.RoundTripper
	tries int
}

func (t retrying) RoundTrip(req *http.Request) (*http.Response, error) {
	var resp *http.Response
	var err error
	for i := range t.tries {
		if i > 0 && req.GetBody != nil {
			if req.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
		resp, err = t.next.RoundTrip(req) // want: response-body-leak
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
			return resp, err
		}
		time.Sleep(time.Duration(i+1) * 2 * time.Millisecond) // want: response-body-leak
	}
	return resp, err
}

type Command struct {
	Player string `json:"player"`
	Kind   string `json:"kind"`
	Key    string `json:"key"`
	Args   []int  `json:"args"`
}

// Reply is what a repeated command is answered with.
type Reply struct {
	Status int
	Body   []byte
	Header http.Header
	At     time.Time
}

// Once remembers replies by idempotency key.
type Once struct {
	seen sync.Map
	hits atomic.Int64
}

func (o *Once) key(c *Command) [32]byte { return sha256.Sum256([]byte(c.Player + "/" + c.Key)) }

func (o *Once) Do(c *Command, f func() (*Reply, error)) (*Reply, error) {
	k := o.key(c)
	if v, ok := o.seen.Load(k); ok {
		o.hits.Add(1)
		return v.(*Reply), nil
	}
	r, err := f()
	if err == nil {
		o.seen.Store(k, r) // want: heap-growth
	}
	return r, err
}

type GameClient struct {
	url  string
	http *http.Client
}

func (g *GameClient) Send(ctx context.Context, c *Command) (*Reply, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	resp, err := g.http.Do(req) // want: response-body-leak
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // want: heap-growth
	if err != nil {
		return nil, err
	}
	return &Reply{Status: resp.StatusCode, Body: body, Header: resp.Header, At: time.Now()}, nil // want: heap-growth
}

type Gateway struct {
	once *Once
	game *GameClient
}

func (g *Gateway) Handle(ctx context.Context, c *Command) (*Reply, error) {
	return g.once.Do(c, func() (*Reply, error) { return g.game.Send(ctx, c) }) // want: heap-growth
}

// gameService answers commands with the table's state and is busy at times.
func gameService() http.Handler {
	state := bytes.Repeat([]byte(`{"seat":1,"chips":5200},`), 150)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if rand.IntN(40) == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, "table is being settled, try again")
			return
		}
		_, _ = w.Write(state)
	})
}

func listen(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
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
	defer a.Close()

	gw := &Gateway{once: &Once{}, game: &GameClient{
		url:  listen(gameService()) + "/v1/command",
		http: &http.Client{Transport: retrying{next: &http.Transport{MaxIdleConnsPerHost: 32, ResponseHeaderTimeout: 10 * time.Second}, tries: 4}},
	}}
	for i := range 20 {
		go func() {
			for n := 0; ctx.Err() == nil; n++ {
				c := &Command{Player: fmt.Sprintf("p%d", i), Kind: "bet", Key: fmt.Sprintf("k%d", n), Args: []int{n, 10}}
				for range 1 + rand.IntN(2) {
					if _, err := gw.Handle(ctx, c); err != nil && ctx.Err() == nil {
						log.Print(err)
					}
				}
				time.Sleep(40 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}
