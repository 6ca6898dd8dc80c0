// Command push-outbox sends notifications and keeps who is present.
package main

import (
	"bytes"
	"context"
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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Presence struct {
	mu   sync.Mutex
	last map[int]time.Time
}

const awayAfter = 15 * time.Minute

func (p *Presence) Touch(id int) {
	now := time.Now()
	p.mu.Lock()
	p.last[id] = now
	p.mu.Unlock()
	time.AfterFunc(awayAfter, func() { p.away(id, now) }) // want: timer-leak
}

func (p *Presence) away(id int, seen time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last[id].Equal(seen) {
		delete(p.last, id)
	}
}

type Note struct {
	Token string `json:"token"`
	Title string `json:"title"`
	Body  string `json:"body"`
}

type Provider struct {
	url    string
	client *http.Client
}

type receipt struct{ ID string }

func (p *Provider) Send(ctx context.Context, n Note) (string, error) {
	payload, err := json.Marshal(n)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(payload))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.client.Do(req) // want: response-body-leak
	if err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusGone {
		return "", fmt.Errorf("token %s is gone", n.Token) // want: response-body-leak
	}
	defer resp.Body.Close()
	var rc receipt
	if err := json.NewDecoder(resp.Body).Decode(&rc); err != nil {
		return "", err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return rc.ID, nil
}

type Outbox struct {
	notes chan Note
	prov  *Provider
	gone  atomic.Int64
}

func (o *Outbox) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-o.notes:
			if _, err := o.prov.Send(ctx, n); err != nil {
				o.gone.Add(1)
			}
		}
	}
}

func main() {
	ctx, _, done := start()
	defer done()
	url := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n Note
		_ = json.NewDecoder(r.Body).Decode(&n)
		if strings.HasSuffix(n.Token, "7") {
			w.WriteHeader(http.StatusGone)
			fmt.Fprintf(w, `{"error":"unregistered","token":%q}`, n.Token)
			return
		}
		fmt.Fprintf(w, `{"id":"%x"}`, rand.Uint64())
	}))
	o := &Outbox{notes: make(chan Note, 256), prov: &Provider{url: url, client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}}
	for range 4 {
		go o.run(ctx)
	}
	p := &Presence{last: map[int]time.Time{}}
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			o.notes <- Note{Token: "t-" + strconv.Itoa(i), Title: "daily bonus", Body: "Your chest is ready"}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for range 60 {
				p.Touch(rand.IntN(3000))
			}
		}
	}
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String() + "/"
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
