// Command bet-intents reserves a stake when a slip is placed and voids the
// reservation when it has not been confirmed in time.
package main

import (
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
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type Leg struct {
	Event  string  `json:"event"`
	Market string  `json:"market"`
	Odds   float64 `json:"odds"`
}

type Intent struct {
	ID     uint64 `json:"id"`
	Player string `json:"player"`
	Stake  int64  `json:"stake"`
	Legs   []Leg  `json:"legs"`

	ctx    context.Context
	cancel context.CancelFunc
}

type Book struct {
	base context.Context
	ttl  time.Duration
	seq  atomic.Uint64

	mu      sync.Mutex
	pending map[uint64]*Intent
	voided  int
}

func NewBook(ctx context.Context, ttl time.Duration) *Book {
	return &Book{base: ctx, ttl: ttl, pending: map[uint64]*Intent{}}
}

func (b *Book) Place(in *Intent) uint64 {
	in.ID = b.seq.Add(1)
	in.ctx, in.cancel = context.WithTimeout(b.base, b.ttl) // want: timer-leak
	context.AfterFunc(in.ctx, func() { b.void(in) })
	b.mu.Lock()
	b.pending[in.ID] = in
	b.mu.Unlock()
	return in.ID
}

func (b *Book) void(in *Intent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.pending[in.ID]; ok {
		delete(b.pending, in.ID)
		b.voided++
	}
}

func (b *Book) Confirm(id uint64) (*Intent, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	in, ok := b.pending[id]
	if !ok {
		return nil, fmt.Errorf("intent %d is gone", id)
	}
	if err := in.ctx.Err(); err != nil {
		return nil, err
	}
	delete(b.pending, id) // want: timer-leak
	return in, nil
}

func (b *Book) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /slips", func(w http.ResponseWriter, r *http.Request) {
		var slips []*Intent
		if err := json.NewDecoder(r.Body).Decode(&slips); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ids := make([]uint64, len(slips))
		for i, s := range slips {
			ids[i] = b.Place(s)
		}
		_ = json.NewEncoder(w).Encode(ids)
	})
	mux.HandleFunc("POST /slips/confirm", func(w http.ResponseWriter, r *http.Request) {
		var ids []uint64
		if err := json.NewDecoder(r.Body).Decode(&ids); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var stake int64
		for _, id := range ids {
			if in, err := b.Confirm(id); err == nil {
				stake += in.Stake
			}
		}
		fmt.Fprint(w, stake)
	})
	return mux
}

func post(url, body string) string {
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return "[]"
	}
	defer resp.Body.Close()
	out, _ := io.ReadAll(resp.Body)
	return string(out)
}

// operator places slips in small batches and confirms each shortly after.
func operator(base string, id int) {
	for range time.Tick(30 * time.Millisecond) {
		slips := make([]Intent, 12)
		for i := range slips {
			slips[i] = Intent{Player: fmt.Sprintf("op%d-p%d", id, rand.IntN(1000)), Stake: 250}
			for l := range 8 {
				slips[i].Legs = append(slips[i].Legs, Leg{Event: fmt.Sprintf("match-%06d", rand.IntN(9000)), Market: "handicap-" + fmt.Sprint(l), Odds: 1.85})
			}
		}
		body, _ := json.Marshal(slips)
		ids := post(base+"/slips", string(body))
		post(base+"/slips/confirm", ids)
	}
}

func main() {
	book := NewBook(context.Background(), 20*time.Minute)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, book.routes())) }()
	for i := range 5 {
		go operator("http://"+ln.Addr().String(), i)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
