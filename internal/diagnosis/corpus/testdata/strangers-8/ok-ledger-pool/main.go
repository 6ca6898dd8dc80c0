// Command ok-ledger-pool books rounds with a well used pool of connections.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// ---- ledger driver ----

type ledgerDriver struct{ n *atomic.Int64 }

func (d ledgerDriver) Connect(context.Context) (driver.Conn, error) { return ledgerConn{d.n}, nil }
func (d ledgerDriver) Driver() driver.Driver                        { return d }
func (d ledgerDriver) Open(string) (driver.Conn, error)             { return ledgerConn{d.n}, nil }

type ledgerConn struct{ n *atomic.Int64 }

func (ledgerConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not prepared") }
func (ledgerConn) Close() error                        { return nil }
func (ledgerConn) Begin() (driver.Tx, error)           { return ledgerTx{}, nil }
func (c ledgerConn) ExecContext(ctx context.Context, _ string, _ []driver.NamedValue) (driver.Result, error) {
	time.Sleep(time.Millisecond + time.Duration(rand.IntN(2000))*time.Microsecond)
	return driver.RowsAffected(c.n.Add(1)), ctx.Err()
}

type ledgerTx struct{}

func (ledgerTx) Commit() error   { return nil }
func (ledgerTx) Rollback() error { return nil }

// ---- booking ----

type Booking struct {
	Round  int
	Player int
	Amount int64
}

type Store interface {
	Book(ctx context.Context, b Booking) error
}

type sqlStore struct{ db *sql.DB }

func (s sqlStore) tx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (s sqlStore) Book(ctx context.Context, b Booking) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "insert into bookings values ($1,$2,$3)", b.Round, b.Player, b.Amount); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "update wallets set balance=balance+$1 where player=$2", b.Amount, b.Player)
		return err
	})
}

// Worker books what comes from its queue; there is one connection for each worker.
func work(ctx context.Context, s Store, q <-chan Booking) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-q:
			if err := s.Book(ctx, b); err != nil && ctx.Err() == nil {
				log.Print(err)
			}
		}
	}
}

// observe serves the profiles and joins the centre.
func observe() *agent.Agent {
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
	return a
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	a := observe()
	defer a.Close()

	const workers = 16
	db := sql.OpenDB(ledgerDriver{new(atomic.Int64)})
	defer db.Close()
	db.SetMaxOpenConns(workers)
	db.SetMaxIdleConns(workers)
	a.AddPool("ledger", agent.SQLPool(db, "ledger:5432"))

	q := make(chan Booking, 512)
	for range workers {
		go work(ctx, sqlStore{db}, q)
	}
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for round := 0; ; round++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for p := range 22 {
				q <- Booking{round, p, rand.Int64N(500)}
			}
		}
	}()
	<-ctx.Done()
}
