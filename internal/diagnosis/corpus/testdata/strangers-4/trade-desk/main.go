// Trade desk: reserves items for player-to-player trades.
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
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
	_ "modernc.org/sqlite"
)

var errGone = errors.New("item is gone")

type desk struct {
	db     *sql.DB
	trades atomic.Int64
	failed atomic.Int64
}

func (d *desk) reserve(item, player int) error {
	tx, err := d.db.Begin() // want: pool-leaked
	if err != nil {
		return err
	}
	var left int
	if err := tx.QueryRow(`select stock from items where id = ?`, item).Scan(&left); err != nil {
		tx.Rollback()
		return err
	}
	if left == 0 {
		return errGone // want: pool-leaked
	}
	if _, err := tx.Exec(`update items set stock = stock where id = ?`, item); err != nil {
		tx.Rollback()
		return err
	}
	return tx.Commit()
}

func (d *desk) customer(ctx context.Context, id int) {
	for ctx.Err() == nil {
		if err := d.reserve(rand.IntN(200), id); err != nil {
			d.failed.Add(1)
		} else {
			d.trades.Add(1)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func open(dir string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "trade.db")+"?_pragma=busy_timeout(2000)&_pragma=journal_mode(WAL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	if _, err := db.Exec(`create table items (id integer primary key, stock integer)`); err != nil {
		return nil, err
	}
	for i := range 200 {
		if _, err := db.Exec(`insert into items values (?, ?)`, i, (i%40+39)/40*5); err != nil {
			return nil, fmt.Errorf("seed: %w", err)
		}
	}
	return db, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	dir, err := os.MkdirTemp("", "trade")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := open(dir)
	if err != nil {
		log.Fatal(err)
	}
	d := &desk{db: db}
	for i := range 40 {
		go d.customer(ctx, i)
	}
	<-ctx.Done()
}
