// Command wallet-hooks books stakes and wins on the players' wallets.
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
	"net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Entry struct {
	Player  int    `json:"player"`
	Amount  int64  `json:"amount"`
	Kind    string `json:"kind"`
	Balance int64  `json:"balance"`
}

// Hook hears of every entry, in the order of the entries.
type Hook func(ctx context.Context, e Entry) error

type Ledger struct {
	mu       sync.Mutex
	balances map[int]int64
	hooks    []Hook
}

var errFunds = errors.New("not enough funds")

func (l *Ledger) OnEntry(h Hook) { l.hooks = append(l.hooks, h) }

func (l *Ledger) update(f func() error) error {
	l.mu.Lock() // want: lock-held-across-io
	defer l.mu.Unlock()
	return f() // want: lock-held-across-io
}

func (l *Ledger) Book(ctx context.Context, player int, amount int64, kind string) (Entry, error) {
	e := Entry{Player: player, Amount: amount, Kind: kind}
	err := l.update(func() error { // want: lock-held-across-io
		b := l.balances[player] + amount
		if b < 0 {
			return errFunds
		}
		e.Balance = b
		if err := l.publish(ctx, e); err != nil { // want: lock-held-across-io
			return err
		}
		l.balances[player] = b
		return nil
	})
	return e, err
}

func (l *Ledger) publish(ctx context.Context, e Entry) error {
	for _, h := range l.hooks {
		if err := h(ctx, e); err != nil { // want: lock-held-across-io
			return err
		}
	}
	return nil
}

// ---- hooks ----

type totals struct {
	mu  sync.Mutex
	sum map[string]int64
}

func (t *totals) add(_ context.Context, e Entry) error {
	t.mu.Lock()
	t.sum[e.Kind] += e.Amount
	t.mu.Unlock()
	return nil
}

type riskFeed struct {
	url    string
	client *http.Client
}

func (f *riskFeed) send(ctx context.Context, e Entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	resp, err := f.client.Do(req) // want: lock-held-across-io
	if err != nil {
		return fmt.Errorf("risk feed: %w", err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Body.Close()
}

// ---- API ----

type api struct{ ledger *Ledger }

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, _ := strconv.Atoi(r.FormValue("p"))
	e, err := a.ledger.Book(r.Context(), p, rand.Int64N(100), r.FormValue("k"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	_ = json.NewEncoder(w).Encode(e)
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// drive lets n clients call url, each pausing between its calls.
func drive(ctx context.Context, n int, pause time.Duration, url func() string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for range n {
		go func() {
			for ctx.Err() == nil {
				if resp, err := client.Get(url()); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(pause)
			}
		}()
	}
}

// observe serves the profiles and joins the centre.
func observe() *agent.Agent {
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
	return a
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	a := observe()
	defer a.Close()

	risk := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(8 * time.Millisecond)
		w.WriteHeader(http.StatusAccepted)
	}))
	l := &Ledger{balances: map[int]int64{}}
	l.OnEntry((&totals{sum: map[string]int64{}}).add)
	l.OnEntry((&riskFeed{url: risk, client: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}).send)
	url := serve(&api{l})
	kinds := []string{"win", "bonus", "refund"}
	drive(ctx, 48, 10*time.Millisecond, func() string {
		return fmt.Sprintf("%s/?p=%d&k=%s", url, rand.IntN(5000), kinds[rand.IntN(3)])
	})
	<-ctx.Done()
}
