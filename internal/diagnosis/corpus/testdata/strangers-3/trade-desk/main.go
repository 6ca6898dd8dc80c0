// Command trade-desk books trades between players.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"strings"
	"time"
)

// ledger is an embedded store behind database/sql.
type ledger struct{}

func (ledger) Connect(context.Context) (driver.Conn, error) { return &session{}, nil }
func (ledger) Driver() driver.Driver                        { return nil }

type session struct{}

func (*session) Close() error                            { return nil }
func (s *session) Begin() (driver.Tx, error)             { return s, nil }
func (s *session) Prepare(q string) (driver.Stmt, error) { return &stmt{q}, nil }
func (*session) Commit() error                           { time.Sleep(2 * time.Millisecond); return nil }
func (*session) Rollback() error                         { return nil }

type stmt struct{ q string }

func (*stmt) Close() error    { return nil }
func (s *stmt) NumInput() int { return strings.Count(s.q, "?") }
func (*stmt) Exec([]driver.Value) (driver.Result, error) {
	time.Sleep(time.Millisecond)
	return driver.RowsAffected(1), nil
}
func (*stmt) Query([]driver.Value) (driver.Rows, error) {
	time.Sleep(time.Millisecond)
	return &cursor{left: 1}, nil
}

type cursor struct{ left int }

func (*cursor) Columns() []string { return []string{"percent"} }
func (*cursor) Close() error      { return nil }
func (c *cursor) Next(dst []driver.Value) error {
	if c.left == 0 {
		return io.EOF
	}
	c.left--
	dst[0] = int64(5)
	return nil
}

type fees struct{ db *sql.DB }

func (f *fees) percent(ctx context.Context, kind string) (p int64, err error) {
	err = f.db.QueryRowContext(ctx, "SELECT percent FROM fees WHERE kind = ?", kind).Scan(&p) // want: pool-leaked
	return p, err
}

type desk struct {
	db   *sql.DB
	fees *fees
}

func inTx(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (d *desk) book(ctx context.Context, seller, buyer, gold int64) error {
	return inTx(ctx, d.db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE purse SET gold = gold - ? WHERE id = ?", gold, buyer); err != nil {
			return err
		}
		p, err := d.fees.percent(ctx, "trade") // want: pool-leaked
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE purse SET gold = gold + ? WHERE id = ?", gold*(100-p)/100, seller)
		return err
	})
}

func (d *desk) handle(w http.ResponseWriter, r *http.Request) {
	if err := d.book(r.Context(), rand.Int64N(1000), rand.Int64N(1000), 50); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	db := sql.OpenDB(ledger{})
	db.SetMaxOpenConns(8)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /trade", (&desk{db, &fees{db}}).handle)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	url := fmt.Sprintf("http://%s/trade", l.Addr())
	for i := range 30 {
		time.AfterFunc(time.Duration(i)*60*time.Millisecond, func() {
			for {
				res, err := http.Post(url, "text/plain", nil)
				if err == nil {
					res.Body.Close()
				}
				time.Sleep(rand.N(5 * time.Millisecond))
			}
		})
	}
	select {}
}
