// Ledger reconciliation: compares two ledgers page by page, gently.
package main

import (
	"context"
	"database/sql"
	"log"
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

type recon struct {
	db      *sql.DB
	pages   atomic.Int64
	differs atomic.Int64
}

func (r *recon) page(ctx context.Context, from, size int) (int, error) {
	rows, err := r.db.QueryContext(ctx, `select id, coins, booked from ledger where id >= ? order by id limit ?`, from, size)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var id, coins, booked int
		if err := rows.Scan(&id, &coins, &booked); err != nil {
			return n, err
		}
		if coins != booked {
			r.differs.Add(1)
		}
		n++
	}
	return n, rows.Err()
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *recon) sweep(ctx context.Context, at, end int) {
	start := at
	for ctx.Err() == nil {
		n, err := r.page(ctx, at, 100)
		if err != nil {
			if ctx.Err() == nil {
				log.Print(err)
			}
			return
		}
		at += n
		r.pages.Add(1)
		if at >= end {
			at = start
		}
		time.Sleep(500 * time.Millisecond)
		if !pause(ctx, time.Second) {
			return
		}
	}
}

func open(dir string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "ledger.db")+"?_pragma=busy_timeout(2000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	if _, err := db.Exec(`create table ledger (id integer primary key, coins integer, booked integer)`); err != nil {
		return nil, err
	}
	tx, err := db.Begin()
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	for i := range 4000 {
		if _, err := tx.Exec(`insert into ledger values (?, ?, ?)`, i, i*3, i*3); err != nil {
			return nil, err
		}
	}
	return db, tx.Commit()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	r := &recon{db: db}
	for i := range 20 {
		go r.sweep(ctx, i*200, (i+1)*200)
	}
	<-ctx.Done()
}
