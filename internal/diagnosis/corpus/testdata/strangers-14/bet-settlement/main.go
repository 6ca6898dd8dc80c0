package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync/atomic"
	"time"
)

type bet struct {
	Round  int64  `json:"round"`
	Player int    `json:"player"`
	Color  string `json:"color"`
	Stake  int64  `json:"stake"`
}

type payout struct {
	Player int   `json:"player"`
	Amount int64 `json:"amount"`
}

// recordStore writes one row per settled bet.
type recordStore interface {
	Append(ctx context.Context, b bet, p payout) error
}

type httpRecordStore struct {
	base   string
	client *http.Client
}

func (s *httpRecordStore) Append(ctx context.Context, b bet, p payout) error {
	body, err := json.Marshal(struct {
		Bet    bet    `json:"bet"`
		Payout payout `json:"payout"`
	}{b, p})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/records", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req) // want: downstream-wait
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("records: %s", resp.Status)
	}
	return nil
}

type settler struct {
	store   recordStore
	winning func(round int64) string
	settled atomic.Int64
}

var errNoBets = errors.New("round without bets")

func (s *settler) settle(ctx context.Context, bets []bet) error {
	if len(bets) == 0 {
		return errNoBets
	}
	for _, b := range bets {
		var p payout
		p.Player = b.Player
		if s.winning(b.Round) == b.Color {
			p.Amount = b.Stake * 2
		}
		if err := s.store.Append(ctx, b, p); err != nil { // want: downstream-wait
			return err
		}
		s.settled.Add(1)
	}
	return nil
}

func (s *settler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var bets []bet
	if err := json.NewDecoder(r.Body).Decode(&bets); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.settle(r.Context(), bets); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintf(w, `{"settled":%d}`, len(bets))
}

func listen(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func recordService() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var row map[string]json.RawMessage
		_ = json.NewDecoder(r.Body).Decode(&row)
		time.Sleep(time.Duration(350+rand.IntN(150)) * time.Millisecond)
		w.WriteHeader(http.StatusCreated)
	})
}

func newBets(round int64) []bet {
	colors := [...]string{"red", "green", "blue", "yellow"}
	bets := make([]bet, 8)
	for i := range bets {
		bets[i] = bet{Round: round, Player: rand.IntN(10000), Color: colors[rand.IntN(len(colors))], Stake: int64(10 + rand.IntN(500))}
	}
	return bets
}

func rooms(url string, n int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for i := range n {
		go func() {
			time.Sleep(time.Duration(i) * 20 * time.Millisecond)
			for round := int64(i) * 1_000_000; ; round++ {
				body, _ := json.Marshal(newBets(round))
				resp, err := client.Post(url, "application/json", bytes.NewReader(body))
				if err == nil {
					_ = resp.Body.Close()
				}
				time.Sleep(200 * time.Millisecond)
			}
		}()
	}
}

func main() {
	store := &httpRecordStore{
		base:   listen(recordService()),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}, Timeout: 10 * time.Second},
	}
	s := &settler{store: store, winning: func(round int64) string {
		return [...]string{"red", "green", "blue", "yellow"}[round%4]
	}}
	rooms(listen(s), 80)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
