// Command wallet-transfer moves chips between players; both wallets are locked
// in the order of their ids.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync"
	"time"
)

var (
	errFunds = errors.New("insufficient funds")
	errSelf  = errors.New("same wallet")
)

type Wallet struct {
	mu      sync.Mutex
	id      int
	balance int64
	recent  [8]int64
	moves   int
}

func (w *Wallet) book(amount int64) {
	w.balance += amount
	w.recent[w.moves%len(w.recent)] = amount
	w.moves++
}

type Bank struct{ wallets []*Wallet }

func NewBank(n int, initial int64) *Bank {
	b := &Bank{wallets: make([]*Wallet, n)}
	for i := range b.wallets {
		b.wallets[i] = &Wallet{id: i, balance: initial}
	}
	return b
}

// locked runs fn with all the given wallets locked.
func locked(fn func() error, ws ...*Wallet) error {
	if len(ws) == 0 {
		return fn()
	}
	low := 0
	for i, w := range ws {
		if w.id < ws[low].id {
			low = i
		}
	}
	ws[0], ws[low] = ws[low], ws[0]
	ws[0].mu.Lock()
	defer ws[0].mu.Unlock()
	return locked(fn, ws[1:]...)
}

func (b *Bank) Transfer(from, to int, amount int64) error {
	if from == to {
		return errSelf
	}
	src, dst := b.wallets[from%len(b.wallets)], b.wallets[to%len(b.wallets)]
	return locked(func() error {
		if src.balance < amount {
			return errFunds
		}
		src.book(-amount)
		dst.book(amount)
		return nil
	}, src, dst)
}

// Total locks every wallet so that no transfer is seen half done.
func (b *Bank) Total() (sum int64) {
	for _, w := range b.wallets {
		w.mu.Lock()
		defer w.mu.Unlock()
		sum += w.balance
	}
	return sum
}

type transfer struct {
	From, To int
	Amount   int64
}

func (b *Bank) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var t transfer
	if err := json.NewDecoder(r.Body).Decode(&t); err != nil || t.From < 0 || t.To < 0 {
		http.Error(w, "bad transfer", http.StatusBadRequest)
		return
	}
	switch err := b.Transfer(t.From, t.To, t.Amount); {
	case errors.Is(err, errFunds):
		http.Error(w, err.Error(), http.StatusPaymentRequired)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func player(url string, wallets int) {
	for {
		from := rand.IntN(wallets)
		to := (from + 1 + rand.IntN(wallets-1)) % wallets
		body := fmt.Sprintf(`{"From":%d,"To":%d,"Amount":%d}`, from, to, rand.IntN(50))
		resp, err := http.Post(url, "application/json", strings.NewReader(body))
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		time.Sleep(30 * time.Millisecond)
	}
}

func main() {
	const wallets = 64
	bank := NewBank(wallets, 100_000)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, bank)) }()
	go func() {
		for range time.Tick(time.Second) {
			if sum := bank.Total(); sum != wallets*100_000 {
				log.Printf("books do not balance: %d", sum)
			}
		}
	}()
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 12
	for range 12 {
		go player("http://"+ln.Addr().String(), wallets)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
