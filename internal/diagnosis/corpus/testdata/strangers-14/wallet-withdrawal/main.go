package main

import (
	"bufio"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"time"
)

// ledger protocol: one line for a statement, one line for the answer.
type ledgerDriver struct{}

func (ledgerDriver) Open(addr string) (driver.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &ledgerConn{c: c, in: bufio.NewReader(c)}, nil
}

type ledgerConn struct {
	c  net.Conn
	in *bufio.Reader
}

func (l *ledgerConn) call(stmt string) error {
	if _, err := fmt.Fprintln(l.c, stmt); err != nil {
		return driver.ErrBadConn
	}
	if _, err := l.in.ReadString('\n'); err != nil {
		return driver.ErrBadConn
	}
	return nil
}

func (l *ledgerConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("no statements") }
func (l *ledgerConn) Close() error                        { return l.c.Close() }
func (l *ledgerConn) Begin() (driver.Tx, error)           { return l, l.call("begin") }
func (l *ledgerConn) Commit() error                       { return l.call("commit") }
func (l *ledgerConn) Rollback() error                     { return l.call("rollback") }

func (l *ledgerConn) ExecContext(_ context.Context, q string, _ []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(1), l.call(q)
}

func ledgerServer() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				for in := bufio.NewScanner(c); in.Scan(); {
					time.Sleep(time.Millisecond)
					_, _ = io.WriteString(c, "ok\n")
				}
			}()
		}
	}()
	return ln.Addr().String()
}

type riskClient struct {
	url  string
	http *http.Client
}

func (c *riskClient) check(ctx context.Context, player int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/?player=%d", c.url, player), nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return errors.New("refused")
	}
	return nil
}

type wallet struct {
	db   *sql.DB
	risk *riskClient
}

func (w *wallet) inTx(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := w.db.BeginTx(ctx, nil) // want: pool-exhausted
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (w *wallet) withdraw(ctx context.Context, player int) error {
	return w.inTx(ctx, func(tx *sql.Tx) error { // want: pool-exhausted
		if _, err := tx.ExecContext(ctx, "reserve"); err != nil {
			return err
		}
		if err := w.risk.check(ctx, player); err != nil { // want: pool-exhausted
			return err
		}
		_, err := tx.ExecContext(ctx, "book")
		return err
	})
}

func (w *wallet) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if err := w.withdraw(r.Context(), rand.IntN(100000)); err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
	}
}

func listen(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func main() {
	sql.Register("ledger", ledgerDriver{})
	db, err := sql.Open("ledger", ledgerServer())
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(5) // want: pool-exhausted
	db.SetMaxIdleConns(5)
	risk := listen(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(60 * time.Millisecond)
		w.WriteHeader(http.StatusNoContent)
	}))
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	url := listen(&wallet{db: db, risk: &riskClient{url: risk, http: &http.Client{Transport: transport}}})
	for range 80 {
		go func() {
			for c := (&http.Client{Transport: transport}); ; time.Sleep(30 * time.Millisecond) {
				if resp, err := c.Post(url, "text/plain", nil); err == nil {
					_ = resp.Body.Close()
				}
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
