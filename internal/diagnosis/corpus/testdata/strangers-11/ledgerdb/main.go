package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"strconv"
	"time"
)

type connector struct{}

func (connector) Connect(context.Context) (driver.Conn, error) { return &conn{}, nil }
func (connector) Driver() driver.Driver                        { return nil }

type conn struct{}

func (*conn) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }
func (*conn) Begin() (driver.Tx, error)           { return nil, errors.ErrUnsupported }
func (*conn) Close() error                        { return nil }

func (*conn) QueryContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	select {
	case <-time.After(time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	id, _ := args[0].Value.(int64)
	if q == qHolds && id%17 != 0 {
		return &cursor{}, nil
	}
	return &cursor{left: 3, id: id}, nil
}

type cursor struct {
	left int
	id   int64
}

func (*cursor) Columns() []string { return []string{"id", "amount"} }
func (*cursor) Close() error      { return nil }
func (c *cursor) Next(dst []driver.Value) error {
	if c.left == 0 {
		return io.EOF
	}
	c.left--
	dst[0], dst[1] = c.id, int64(c.left*100)
	return nil
}

const (
	qHolds   = `select id, amount from holds where account = $1 and released_at is null`
	qEntries = `select id, amount from entries where account = $1 order by id desc limit 3`
)

type repo struct {
	ctx context.Context
	db  *sql.DB
}

func (r *repo) held(account int64) (bool, error) {
	rows, err := r.db.QueryContext(r.ctx, qHolds, account) // want: pool-leaked
	if err != nil {
		return false, err
	}
	for rows.Next() {
		var id, amount int64
		if err := rows.Scan(&id, &amount); err != nil {
			return false, err // want: pool-leaked
		}
		if amount > 0 {
			return true, nil // want: pool-leaked
		}
	}
	return false, rows.Err()
}

func (r *repo) balance(ctx context.Context, account int64) (sum int64, err error) {
	rows, err := r.db.QueryContext(ctx, qEntries, account)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, amount int64
		if err = rows.Scan(&id, &amount); err != nil {
			return 0, err
		}
		sum += amount
	}
	return sum, rows.Err()
}

type wallet struct{ repo *repo }

var errHeld = errors.New("account on hold")

func (w wallet) quote(ctx context.Context, account int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	switch held, err := w.repo.held(account); { // want: pool-leaked
	case err != nil:
		return 0, fmt.Errorf("holds: %w", err)
	case held:
		return 0, errHeld
	}
	return w.repo.balance(ctx, account)
}

func (w wallet) handle(rw http.ResponseWriter, r *http.Request) {
	account, err := strconv.ParseInt(r.PathValue("account"), 10, 64)
	if err != nil {
		http.Error(rw, "account", http.StatusBadRequest)
		return
	}
	sum, err := w.quote(r.Context(), account)
	if errors.Is(err, errHeld) {
		http.Error(rw, err.Error(), http.StatusConflict)
		return
	} else if err != nil {
		http.Error(rw, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(rw, sum)
}

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	db := sql.OpenDB(connector{})
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /accounts/{account}/balance", wallet{&repo{ctx, db}}.handle)
	ts := httptest.NewServer(mux)
	client := ts.Client()
	client.Timeout = 2 * time.Second
	for range 16 {
		go func() {
			for {
				resp, err := client.Get(fmt.Sprintf("%s/accounts/%d/balance", ts.URL, rand.IntN(100000)))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	log.Println(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
