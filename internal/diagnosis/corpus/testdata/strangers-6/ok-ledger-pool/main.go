// Command ok-ledger-pool writes the ledger over a bounded pool of connections
// that has some room left.
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
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// ledgerDB is a driver over a ledger in this process.
type ledgerDB struct {
	mu       sync.Mutex
	balances map[int64]int64
}

func (l *ledgerDB) Connect(context.Context) (driver.Conn, error) { return &ledgerConn{l}, nil }
func (l *ledgerDB) Driver() driver.Driver                        { return ledgerDriver{l} }

type ledgerDriver struct{ l *ledgerDB }

func (d ledgerDriver) Open(string) (driver.Conn, error) { return &ledgerConn{d.l}, nil }

type ledgerConn struct{ l *ledgerDB }

func (c *ledgerConn) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }
func (c *ledgerConn) Close() error                        { return nil }
func (c *ledgerConn) Begin() (driver.Tx, error)           { return nopTx{}, nil }

func (c *ledgerConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	time.Sleep(time.Duration(1500+rand.IntN(1500)) * time.Microsecond)
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.l.balances[args[0].Value.(int64)] += args[1].Value.(int64)
	return driver.RowsAffected(1), nil
}

type nopTx struct{}

func (nopTx) Commit() error   { return nil }
func (nopTx) Rollback() error { return nil }

type Ledger struct {
	db   *sql.DB
	done atomic.Int64
}

func (l *Ledger) Transfer(ctx context.Context, from, to, n int64) error {
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "update balance set n=n+$2 where player=$1", from, -n); err != nil {
		return fmt.Errorf("debit %d: %w", from, err)
	}
	if _, err := tx.ExecContext(ctx, "update balance set n=n+$2 where player=$1", to, n); err != nil {
		return fmt.Errorf("credit %d: %w", to, err)
	}
	l.done.Add(1)
	return tx.Commit()
}

func (l *Ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := l.Transfer(ctx, rand.Int64N(5000), rand.Int64N(5000), rand.Int64N(90)); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
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

	db := sql.OpenDB(&ledgerDB{balances: map[int64]int64{}})
	defer db.Close()
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12)
	a.AddPool("ledger", agent.SQLPool(db, "ledger:5432"))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: &Ledger{db: db}}
	go func() { _ = srv.Serve(ln) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 40}}
	for range 30 {
		go func() {
			for ctx.Err() == nil {
				if resp, err := client.Post("http://"+ln.Addr().String()+"/transfer", "text/plain", nil); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(20+rand.IntN(50)) * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
	_ = srv.Close()
}
