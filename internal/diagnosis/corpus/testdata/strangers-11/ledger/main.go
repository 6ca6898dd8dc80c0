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
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

type memDriver struct{ accounts [512]atomic.Int64 }

func (d *memDriver) Connect(context.Context) (driver.Conn, error) { return &memConn{d}, nil }
func (d *memDriver) Driver() driver.Driver                        { return nil }

type memConn struct{ d *memDriver }

func (c *memConn) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }
func (c *memConn) Begin() (driver.Tx, error)           { return memTx{}, nil }
func (c *memConn) Close() error                        { return nil }

func (c *memConn) latency() { time.Sleep(1500*time.Microsecond + rand.N(time.Millisecond)) }

func (c *memConn) ExecContext(_ context.Context, _ string, args []driver.NamedValue) (driver.Result, error) {
	c.latency()
	c.d.accounts[args[1].Value.(int64)%512].Add(args[0].Value.(int64))
	return driver.RowsAffected(1), nil
}

func (c *memConn) QueryContext(_ context.Context, _ string, args []driver.NamedValue) (driver.Rows, error) {
	c.latency()
	return &one{v: c.d.accounts[args[0].Value.(int64)%512].Load()}, nil
}

type memTx struct{}

func (memTx) Commit() error   { return nil }
func (memTx) Rollback() error { return nil }

type one struct {
	v    int64
	done bool
}

func (*one) Columns() []string { return []string{"balance"} }
func (*one) Close() error      { return nil }
func (o *one) Next(dst []driver.Value) error {
	if o.done {
		return io.EOF
	}
	o.done, dst[0] = true, o.v
	return nil
}

type Accounts struct{ db *sql.DB }

func (a Accounts) inTx(ctx context.Context, fn func(*sql.Tx) error) (err error) {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
			return
		}
		err = tx.Commit()
	}()
	return fn(tx)
}

func (a Accounts) Transfer(ctx context.Context, from, to, amount int64) error {
	return a.inTx(ctx, func(tx *sql.Tx) error {
		for id, delta := range map[int64]int64{from: -amount, to: amount} {
			if _, err := tx.ExecContext(ctx, `update accounts set balance = balance + $1 where id = $2`, delta, id); err != nil {
				return fmt.Errorf("account %d: %w", id, err)
			}
		}
		return nil
	})
}

func (a Accounts) Balance(ctx context.Context, id int64) (v int64, err error) {
	err = a.db.QueryRowContext(ctx, `select balance from accounts where id = $1`, id).Scan(&v)
	return v, err
}

func (a Accounts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct{ From, To, Amount int64 }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if in.Amount > 0 {
		if err := a.Transfer(ctx, in.From, in.To, in.Amount); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
	}
	v, err := a.Balance(ctx, in.From)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, v)
}

func main() {
	runtime.SetBlockProfileRate(1_000_000)
	runtime.SetMutexProfileFraction(10)
	db := sql.OpenDB(&memDriver{})
	db.SetMaxOpenConns(10)
	db.SetMaxIdleConns(10)
	ts := httptest.NewServer(Accounts{db})
	hc := ts.Client()
	hc.Transport.(*http.Transport).MaxIdleConnsPerHost = 16
	for i := range 9 {
		go func() {
			for n := 0; ; n++ {
				amount := max(0, rand.IntN(30)-10)
				rd, wr := io.Pipe()
				go func() {
					_ = wr.CloseWithError(json.NewEncoder(wr).Encode(map[string]int{"From": i*31 + n%31, "To": rand.IntN(512), "Amount": amount}))
				}()
				if resp, err := hc.Post(ts.URL, "application/json", rd); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(8*time.Millisecond + rand.N(12*time.Millisecond))
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
