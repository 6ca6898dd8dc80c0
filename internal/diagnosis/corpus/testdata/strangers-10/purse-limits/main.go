package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite"
)

const schema = `
CREATE TABLE purse(player INTEGER PRIMARY KEY, cents INTEGER NOT NULL);
CREATE TABLE daily_limit(player INTEGER PRIMARY KEY, cap INTEGER NOT NULL, used INTEGER NOT NULL);`

type Limits interface {
	Remaining(ctx context.Context, player int64) (int64, error)
}

type limitStore struct{ db *sql.DB }

func (l limitStore) Remaining(ctx context.Context, player int64) (left int64, err error) {
	err = l.db.QueryRowContext(ctx, // want: pool-leaked
		`SELECT cap - used FROM daily_limit WHERE player = ?`, player).Scan(&left)
	return left, err
}

type policy struct {
	limits Limits
	floor  int64
}

func (p policy) permits(ctx context.Context, player, balance, want int64) error {
	if balance-want < p.floor {
		return errBroke
	}
	left, err := p.limits.Remaining(ctx, player) // want: pool-leaked
	switch {
	case err != nil:
		return fmt.Errorf("limit of %d: %w", player, err)
	case left < want:
		return errCapped
	}
	return nil
}

var (
	errBroke  = errors.New("balance too low")
	errCapped = errors.New("daily cap reached")
)

type Purses struct {
	db     *sql.DB
	policy policy
}

func (p *Purses) inTx(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := p.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (p *Purses) Quote(ctx context.Context, player, stake int64) (after int64, err error) {
	err = p.inTx(ctx, func(tx *sql.Tx) error {
		var cents int64
		if err := tx.QueryRowContext(ctx, `SELECT cents FROM purse WHERE player = ?`, player).Scan(&cents); err != nil {
			return err
		}
		if err := p.policy.permits(ctx, player, cents, stake); err != nil { // want: pool-leaked
			return err
		}
		after = cents - stake
		return nil
	})
	return after, err
}

func open(dir string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "purse.db")+"?_pragma=journal_mode(wal)&_pragma=busy_timeout(2000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(6)
	db.SetMaxIdleConns(6)
	if _, err := db.Exec(schema); err != nil {
		return nil, err
	}
	tx, err := db.Begin()
	if err != nil {
		return nil, err
	}
	for i := range 500 {
		if _, err := tx.Exec(`INSERT INTO purse VALUES(?, ?)`, i, 1_000_00); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(`INSERT INTO daily_limit VALUES(?, ?, 0)`, i, 500_00); err != nil {
			return nil, err
		}
	}
	return db, tx.Commit()
}

type stats struct{ ok, failed atomic.Int64 }

func (s *stats) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "ok %d\nfailed %d\n", s.ok.Load(), s.failed.Load())
}

func terminal(p *Purses, s *stats) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
		_, err := p.Quote(ctx, rand.Int64N(500), 100+rand.Int64N(2000))
		cancel()
		if err != nil {
			s.failed.Add(1)
		} else {
			s.ok.Add(1)
		}
		time.Sleep(time.Duration(5+rand.IntN(10)) * time.Millisecond)
	}
}

func main() {
	dir, err := os.MkdirTemp("", "purse")
	if err != nil {
		log.Fatal(err)
	}
	db, err := open(dir)
	if err != nil {
		log.Fatal(err)
	}
	p := &Purses{db: db, policy: policy{limits: limitStore{db}, floor: 0}}
	s := new(stats)
	http.Handle("/quotes", s)
	for range 40 {
		go terminal(p, s)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
