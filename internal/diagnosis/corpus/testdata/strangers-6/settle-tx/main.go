// Command settle-tx settles rounds in the record database.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// ---- record driver: statements over an in-process store ----

type recordDriver struct{ rows *atomic.Int64 }

func (d recordDriver) Connect(context.Context) (driver.Conn, error) { return &recordConn{d}, nil }
func (d recordDriver) Driver() driver.Driver                        { return d }
func (d recordDriver) Open(string) (driver.Conn, error)             { return &recordConn{d}, nil }

type recordConn struct{ d recordDriver }

func (c *recordConn) Prepare(q string) (driver.Stmt, error) { return nil, errors.New("not prepared") }
func (c *recordConn) Close() error                          { return nil }
func (c *recordConn) Begin() (driver.Tx, error)             { return recordTx{}, nil }
func (c *recordConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	time.Sleep(time.Millisecond)
	return driver.RowsAffected(c.d.rows.Add(1)), ctx.Err()
}

type recordTx struct{}

func (recordTx) Commit() error   { return nil }
func (recordTx) Rollback() error { return nil }

// ---- rates ----

type Rates struct {
	url    string
	client *http.Client
}

func (r *Rates) Of(ctx context.Context, currency string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"?c="+currency, nil)
	if err != nil {
		return 0, err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var v struct{ Rate float64 }
	err = json.NewDecoder(resp.Body).Decode(&v)
	return v.Rate, err
}

// ---- settlement ----

type Round struct {
	ID       int
	Currency string
	Winners  []int
}

type Store struct{ db *sql.DB }

// InTx runs f in a transaction.
func (s *Store) InTx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil) // want: pool-exhausted
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil { // want: pool-exhausted
		return err
	}
	return tx.Commit()
}

type Settler struct {
	store *Store
	rates *Rates
}

func (s *Settler) Settle(ctx context.Context, r Round) error {
	return s.store.InTx(ctx, func(tx *sql.Tx) error { // want: pool-exhausted
		if _, err := tx.ExecContext(ctx, "update rounds set state='settling' where id=$1", r.ID); err != nil {
			return err
		}
		rate, err := s.rates.Of(ctx, r.Currency) // want: pool-exhausted
		if err != nil {
			return fmt.Errorf("rate of %s: %w", r.Currency, err)
		}
		for _, w := range r.Winners {
			if _, err := tx.ExecContext(ctx, "insert into payouts values ($1,$2,$3)", r.ID, w, rate*10); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Settler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rd := Round{ID: rand.IntN(1e6), Currency: "TWD", Winners: []int{1, 2, 3}}
	if err := s.Settle(r.Context(), rd); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String() + "/"
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

	db := sql.OpenDB(recordDriver{rows: new(atomic.Int64)})
	defer db.Close()
	db.SetMaxOpenConns(6)
	db.SetMaxIdleConns(6)
	a.AddPool("records", agent.SQLPool(db, "records:5432"))

	rateURL := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(90 * time.Millisecond)
		fmt.Fprintf(w, `{"rate":%.3f}`, 30+rand.Float64())
	}))
	transport := func() *http.Transport { return &http.Transport{MaxIdleConnsPerHost: 100} }
	url := serve(&Settler{store: &Store{db}, rates: &Rates{url: rateURL, client: &http.Client{Transport: transport()}}})
	client := &http.Client{Transport: transport()}
	for range 70 {
		go func() {
			for ctx.Err() == nil {
				if resp, err := client.Post(url, "text/plain", nil); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(30 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}
