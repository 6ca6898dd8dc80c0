// Command jackpot-ledger books contributions to the progressive jackpots.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash/fnv"
	"log"
	"math/rand/v2"
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

type Contribution struct {
	Player   string `json:"player"`
	Currency string `json:"currency"`
	Amount   int64  `json:"amount"`
	Seq      uint64 `json:"seq"`
}

// entry is a link of the audit chain of a shard.
type entry struct {
	Contribution
	Prev string `json:"prev"`
	Memo string `json:"memo"`
}

type book struct {
	sync.Mutex
	total map[string]int64
	chain string
	tail  [64]entry
	n     uint64
}

// seal adds the contribution to the audit chain.
func (b *book) seal(key []byte, c Contribution) {
	e := entry{Contribution: c, Prev: b.chain, Memo: "jackpot contribution of " + c.Player}
	raw, _ := json.Marshal(e)
	sum := raw
	for range 12 {
		m := hmac.New(sha256.New, key)
		m.Write(sum)
		sum = m.Sum(nil)
	}
	b.chain = hex.EncodeToString(sum)
	b.tail[b.n%uint64(len(b.tail))] = e
	b.n++
	b.total[c.Currency] += c.Amount
}

// Ledger spreads its books so that bookings do not get in each other's way.
type Ledger struct {
	books [32]book
	key   []byte
	seq   atomic.Uint64
}

func NewLedger(key string) *Ledger {
	l := &Ledger{key: []byte(key)}
	for i := range l.books {
		l.books[i].total = map[string]int64{}
	}
	return l
}

func (l *Ledger) shard(c Contribution) *book {
	h := fnv.New32a()
	_, _ = h.Write([]byte(c.Currency)) // want: lock-contention
	return &l.books[h.Sum32()%uint32(len(l.books))]
}

func (l *Ledger) Book(c Contribution) uint64 {
	c.Seq = l.seq.Add(1)
	b := l.shard(c) // want: lock-contention
	b.Lock()        // want: lock-contention
	defer b.Unlock()
	b.seal(l.key, c) // want: lock-contention
	return c.Seq
}

func (l *Ledger) Total(currency string) int64 {
	b := l.shard(Contribution{Currency: currency})
	b.Lock()
	defer b.Unlock()
	return b.total[currency]
}

type Booker interface {
	Book(Contribution) uint64
}

// Spin is one machine that players sit at.
type Spin struct {
	booker  Booker
	player  string
	rng     *rand.Rand
	slowest time.Duration
}

func (s *Spin) outcome() (stake int64) {
	reels := make([]int, 5)
	for i := range reels {
		reels[i] = s.rng.IntN(12)
	}
	for _, r := range reels {
		stake += int64(r)
	}
	return stake + 10
}

func (s *Spin) run(ctx context.Context, wg *sync.WaitGroup) {
	defer wg.Done()
	for ctx.Err() == nil {
		stake := s.outcome()
		start := time.Now()
		s.booker.Book(Contribution{Player: s.player, Currency: "TWD", Amount: stake * 3 / 100})
		s.slowest = max(s.slowest, time.Since(start))
		time.Sleep(200 * time.Microsecond)
	}
}

func pprofMux() *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("/debug/pprof/", pprof.Index)
	m.HandleFunc("/debug/pprof/profile", pprof.Profile)
	m.HandleFunc("/debug/pprof/trace", pprof.Trace)
	m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	m.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	return m
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		go func() { log.Print(http.ListenAndServe(addr, pprofMux())) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	defer a.Close()

	ledger := NewLedger("season-7")
	var wg sync.WaitGroup
	for i := range 120 {
		wg.Add(1)
		s := &Spin{booker: ledger, player: "p" + strconv.Itoa(i), rng: rand.New(rand.NewPCG(uint64(i), 7))}
		go s.run(ctx, &wg)
	}
	go func() {
		for range time.Tick(5 * time.Second) {
			log.Printf("TWD jackpot at %d", ledger.Total("TWD"))
		}
	}()
	wg.Wait()
}
