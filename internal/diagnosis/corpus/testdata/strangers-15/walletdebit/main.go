// walletdebit books bets against player wallets and mirrors each booking to the operator's ledger.
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
	_ "net/http/pprof"
	"os"
	"sync"
	"time"
)

type Entry struct {
	Player string `json:"player"`
	Round  int64  `json:"round"`
	Amount int64  `json:"amount"`
}

type Ledger interface {
	Append(ctx context.Context, e Entry) error
}

type operatorLedger struct {
	base   string
	client *http.Client
}

func (l *operatorLedger) Append(ctx context.Context, e Entry) error {
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.base+"/entries", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("ledger: %s", resp.Status)
	}
	return nil
}

var ErrInsufficient = errors.New("insufficient funds")

type Book struct {
	mu       sync.Mutex
	balances map[string]int64
	ledger   Ledger
}

func (b *Book) Debit(ctx context.Context, e Entry) (int64, error) {
	b.mu.Lock() // want: lock-held-across-io
	defer b.mu.Unlock()

	bal, ok := b.balances[e.Player]
	if !ok {
		bal = 1_000_000
	}
	if bal < e.Amount {
		return bal, ErrInsufficient
	}
	if err := b.ledger.Append(ctx, e); err != nil { // want: lock-held-across-io
		return bal, err
	}
	bal -= e.Amount
	b.balances[e.Player] = bal
	return bal, nil
}

func (b *Book) Balance(player string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.balances[player]
}

func routes(b *Book) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bets", func(w http.ResponseWriter, r *http.Request) {
		var e Entry
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		bal, err := b.Debit(r.Context(), e)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]int64{"balance": bal})
	})
	mux.HandleFunc("GET /balance", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, b.Balance(r.URL.Query().Get("player")))
	})
	return mux
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()

	ledgerURL := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(18 * time.Millisecond)
		w.WriteHeader(http.StatusCreated)
	}))
	book := &Book{
		balances: make(map[string]int64),
		ledger:   &operatorLedger{base: ledgerURL, client: &http.Client{Timeout: 3 * time.Second}},
	}
	api := serve(routes(book))

	players := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}, Timeout: 20 * time.Second}
	for i := range 60 {
		go func() {
			name := fmt.Sprintf("p-%03d", i)
			for round := int64(1); ; round++ {
				var resp *http.Response
				var err error
				if i%6 == 0 {
					resp, err = players.Get(api + "/balance?player=" + name)
				} else {
					body, _ := json.Marshal(Entry{Player: name, Round: round, Amount: 1 + rand.Int64N(9)})
					resp, err = players.Post(api+"/bets", "application/json", bytes.NewReader(body))
				}
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(40+rand.IntN(60)) * time.Millisecond)
			}
		}()
	}
	select {}
}
