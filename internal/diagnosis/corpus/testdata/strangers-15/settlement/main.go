// settlement pays out finished rounds: reads the stake, asks the jackpot partner, books the payout.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite"
)

type quote struct {
	Factor int64 `json:"factor"`
}

type Partner struct {
	url string
	hc  http.Client
}

func (p *Partner) Quote(ctx context.Context, round int64) (quote, error) {
	var q quote
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/quote?round=%d", p.url, round), nil)
	if err != nil {
		return q, err
	}
	resp, err := p.hc.Do(req)
	if err != nil {
		return q, err
	}
	defer resp.Body.Close()
	return q, json.NewDecoder(resp.Body).Decode(&q)
}

type Settler struct {
	db      *sql.DB
	partner *Partner
}

func openDB(dir string) (*sql.DB, error) {
	dsn := "file:" + filepath.Join(dir, "rounds.db") + "?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=busy_timeout(2000)"
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4) // want: pool-exhausted
	db.SetMaxIdleConns(4)
	if _, err = db.Exec(`CREATE TABLE rounds (id INTEGER PRIMARY KEY, stake INTEGER, payout INTEGER)`); err != nil {
		return nil, err
	}
	_, err = db.Exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 5000)
		INSERT INTO rounds SELECT i, 10 + i % 90, 0 FROM n`)
	return db, err
}

func (s *Settler) Settle(ctx context.Context, round int64) (int64, error) {
	conn, err := s.db.Conn(ctx) // want: pool-exhausted
	if err != nil {
		return 0, fmt.Errorf("settle %d: %w", round, err)
	}
	defer conn.Close()
	var stake int64
	if err := conn.QueryRowContext(ctx, `SELECT stake FROM rounds WHERE id = ?`, round).Scan(&stake); err != nil {
		return 0, err
	}
	q, err := s.partner.Quote(ctx, round) // want: pool-exhausted
	if err != nil {
		return 0, err
	}
	payout := stake * q.Factor / 100
	_, err = conn.ExecContext(ctx, `UPDATE rounds SET payout = ? WHERE id = ?`, payout, round)
	return payout, err
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	dir, err := os.MkdirTemp("", "settlement")
	if err != nil {
		log.Fatal(err)
	}
	db, err := openDB(dir)
	if err != nil {
		log.Fatal(err)
	}
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(45 * time.Millisecond)
		_ = json.NewEncoder(w).Encode(quote{Factor: 90 + rand.Int64N(40)})
	}))
	s := &Settler{db: db, partner: &Partner{
		url: partner.URL,
		hc:  http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 5 * time.Second},
	}}

	finished := make(chan int64)
	for range 64 {
		go func() {
			for id := range finished {
				if _, err := s.Settle(context.Background(), id); err != nil {
					log.Print(err)
				}
			}
		}()
	}
	for {
		finished <- 1 + rand.Int64N(5000)
		time.Sleep(time.Millisecond)
	}
}
