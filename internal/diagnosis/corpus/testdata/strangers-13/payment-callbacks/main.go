// payment-callbacks receives the providers' notices about deposits, drops the
// ones it has seen and books the rest in the ledger.
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
	_ "net/http/pprof"
	"os"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

type notice struct {
	ID      string `json:"id"`
	Player  string `json:"player"`
	Amount  int64  `json:"amount"`
	Receipt string `json:"receipt"`
}

type seenNotice struct {
	at   time.Time
	body []byte
}

// dedupe answers a provider's repeats with the first outcome.
type dedupe struct {
	mu   sync.Mutex
	seen map[string]*seenNotice
}

func (d *dedupe) first(id string, body []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.seen[id]; ok {
		return false
	}
	d.seen[id] = &seenNotice{at: time.Now(), body: body} // want: heap-growth
	return true
}

type ledger struct {
	base string
	hc   *http.Client
}

func (l *ledger) post(ctx context.Context, account string, amount int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		fmt.Sprintf("%s/entries?account=%s&amount=%d", l.base, account, amount), nil)
	if err != nil {
		return err
	}
	resp, err := l.hc.Do(req) // want: downstream-wait
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// book writes the entries of one deposit.
func (l *ledger) book(ctx context.Context, n notice) error {
	entries := []struct {
		account string
		amount  int64
	}{
		{n.Player + ":cash", n.Amount}, {"house:clearing", -n.Amount}, {n.Player + ":points", n.Amount / 10},
		{"house:points", -n.Amount / 10}, {"fees:provider", n.Amount / 50}, {"house:fees", -n.Amount / 50},
	}
	for _, e := range entries {
		if err := l.post(ctx, e.account, e.amount); err != nil { // want: downstream-wait
			return err
		}
	}
	return nil
}

func callback(d *dedupe, l *ledger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body) // want: heap-growth
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var n notice
		if err := json.Unmarshal(body, &n); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if !d.first(n.ID, body) {
			w.WriteHeader(http.StatusAlreadyReported)
			return
		}
		if err := l.book(r.Context(), n); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	}
}

func up(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func provider(url string, senders int) {
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders}}
	receipt := string(bytes.Repeat([]byte("r"), 18<<10))
	for range senders {
		go func() {
			for {
				b, _ := json.Marshal(notice{ID: ulid.Make().String(), Player: fmt.Sprintf("p%05d", rand.IntN(90000)),
					Amount: 500 + rand.Int64N(9000), Receipt: receipt})
				if resp, err := hc.Post(url, "application/json", bytes.NewReader(b)); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
			}
		}()
	}
}

func main() {
	ledgerURL := up(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(50+rand.IntN(50)) * time.Millisecond)
		fmt.Fprintln(w, `{"ok":true}`)
	}))
	d := &dedupe{seen: make(map[string]*seenNotice)}
	l := &ledger{base: ledgerURL, hc: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 3 * time.Second}}
	mux := http.NewServeMux()
	mux.Handle("POST /callback", callback(d, l))
	provider(up(mux)+"/callback", 48)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
