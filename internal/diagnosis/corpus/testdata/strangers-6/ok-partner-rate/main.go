// Command ok-partner-rate forwards results to partners, not faster than each
// partner has agreed to.
package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/opscenter/opscenter/agent"
)

type Result struct {
	XMLName xml.Name `xml:"result"`
	Round   int      `xml:"round"`
	Color   string   `xml:"color"`
	Paid    int64    `xml:"paid"`
}

// limited is a transport that keeps to a rate.
type limited struct {
	next http.RoundTripper
	lim  *rate.Limiter
}

func (l limited) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := l.lim.Wait(req.Context()); err != nil {
		return nil, err
	}
	return l.next.RoundTrip(req)
}

type Partner struct {
	Name  string
	queue chan Result
	url   string
	http  *http.Client
	sent  atomic.Int64
	lost  atomic.Int64
}

func NewPartner(name, url string, perSecond float64) *Partner {
	return &Partner{Name: name, url: url, queue: make(chan Result, 64), http: &http.Client{
		Timeout:   5 * time.Second,
		Transport: limited{next: &http.Transport{MaxIdleConnsPerHost: 4}, lim: rate.NewLimiter(rate.Limit(perSecond), 10)},
	}}
}

// Offer queues a result; a partner that is far behind gets the next summary.
func (p *Partner) Offer(r Result) {
	select {
	case p.queue <- r:
	default:
		p.lost.Add(1)
	}
}

func (p *Partner) post(ctx context.Context, r Result) error {
	b, err := xml.Marshal(r)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (p *Partner) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-p.queue:
			if err := p.post(ctx, r); err != nil && ctx.Err() == nil {
				log.Printf("%s: %v", p.Name, err)
				continue
			}
			p.sent.Add(1)
		}
	}
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

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	sink := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var res Result
		if err := xml.NewDecoder(r.Body).Decode(&res); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, "ok")
	})}
	go func() { _ = sink.Serve(ln) }()

	g, gctx := errgroup.WithContext(ctx)
	var partners []*Partner
	for i := range 6 {
		p := NewPartner(fmt.Sprintf("partner-%d", i), "http://"+ln.Addr().String(), 40)
		partners = append(partners, p)
		for range 2 {
			g.Go(func() error { return p.Run(gctx) })
		}
	}
	g.Go(func() error {
		t := time.NewTicker(40 * time.Millisecond)
		defer t.Stop()
		for n := 0; ; n++ {
			select {
			case <-gctx.Done():
				return nil
			case <-t.C:
				r := Result{Round: n, Color: []string{"red", "green", "blue"}[n%3], Paid: rand.Int64N(9000)}
				for _, p := range partners {
					p.Offer(r)
				}
			}
		}
	})
	_ = g.Wait()
	_ = sink.Close()
}
