// Command bet-reserve reserves chips for bets and settles them.
package main

import (
	"context"
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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Bet struct {
	ID      uint64
	Player  int
	Amount  int64
	Slip    [6]uint64
	settled atomic.Bool
}

type Wallet struct {
	mu   sync.Mutex
	free map[int]int64
}

func (w *Wallet) add(player int, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free[player] += n
}

type Expiry interface {
	After(d time.Duration, f func())
}

type clock struct{}

func (clock) After(d time.Duration, f func()) {
	time.AfterFunc(d, f) // want: timer-leak
}

type Desk struct {
	wallet  *Wallet
	expiry  Expiry
	ttl     time.Duration
	seq     atomic.Uint64
	expired atomic.Int64
}

// Reserve takes the chips of a bet, which come back unless it is settled in time.
func (d *Desk) Reserve(player int, amount int64) *Bet {
	b := &Bet{ID: d.seq.Add(1), Player: player, Amount: amount}
	d.wallet.add(player, -amount)
	d.expiry.After(d.ttl, func() { // want: timer-leak
		if b.settled.CompareAndSwap(false, true) {
			d.expired.Add(1)
			d.wallet.add(b.Player, b.Amount)
		}
	})
	return b
}

func (d *Desk) Settle(b *Bet, win int64) {
	if b.settled.CompareAndSwap(false, true) {
		d.wallet.add(b.Player, win)
	}
}

func main() {
	ctx, _, done := boot()
	defer done()
	d := &Desk{wallet: &Wallet{free: map[int]int64{}}, expiry: clock{}, ttl: 30 * time.Minute}
	url := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		player, err := strconv.Atoi(r.URL.Query().Get("player"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var last uint64
		for range 16 {
			b := d.Reserve(player, 10)
			d.Settle(b, rand.Int64N(20))
			last = b.ID
		}
		fmt.Fprintln(w, last)
	}))
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	players(ctx, 20, 40*time.Millisecond, func(i int) error { return call(c, url+"/?player="+strconv.Itoa(i)) })
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
