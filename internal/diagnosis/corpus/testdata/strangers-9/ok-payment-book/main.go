// Command ok-payment-book books payments in the ledger database.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
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

type ledgerDriver struct{ rows *atomic.Int64 }

func (d ledgerDriver) Connect(context.Context) (driver.Conn, error) { return &ledgerConn{d}, nil }
func (d ledgerDriver) Driver() driver.Driver                        { return d }
func (d ledgerDriver) Open(string) (driver.Conn, error)             { return &ledgerConn{d}, nil }

type ledgerConn struct{ d ledgerDriver }

func (c *ledgerConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not prepared") }
func (c *ledgerConn) Close() error                        { return nil }
func (c *ledgerConn) Begin() (driver.Tx, error)           { return ledgerTx{}, nil }
func (c *ledgerConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	time.Sleep(time.Millisecond)
	return driver.RowsAffected(c.d.rows.Add(1)), ctx.Err()
}

type ledgerTx struct{}

func (ledgerTx) Commit() error   { return nil }
func (ledgerTx) Rollback() error { return nil }

type Ledger struct{ db *sql.DB }

func (l *Ledger) inTx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (l *Ledger) Transfer(ctx context.Context, from, to int, n int64) error {
	return l.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "insert into ledger values ($1,$2)", from, -n); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "insert into ledger values ($1,$2)", to, n)
		return err
	})
}

func main() {
	ctx, a, done := boot()
	defer done()
	db := sql.OpenDB(ledgerDriver{new(atomic.Int64)})
	defer db.Close()
	db.SetMaxOpenConns(10)
	db.SetMaxIdleConns(10)
	a.AddPool("ledger", agent.SQLPool(db, "ledger:5432"))
	l := &Ledger{db}
	url := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := l.Transfer(r.Context(), rand.IntN(1e6), rand.IntN(1e6), 5); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	players(ctx, 20, 50*time.Millisecond, func(int) error { return call(c, url) })
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
