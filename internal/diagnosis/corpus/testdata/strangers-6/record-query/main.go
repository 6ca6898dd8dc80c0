// Command record-query answers history questions out of the record database
// and reprices the running markets.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	_ "modernc.org/sqlite"

	"github.com/opscenter/opscenter/agent"
)

var errUnknown = errors.New("unknown round")

type RoundInfo struct {
	ID     int64
	Table  string
	Result string
}

// Rounds is the repository of finished rounds.
type Rounds struct{ db *sql.DB }

func (r *Rounds) migrate(ctx context.Context) error {
	if _, err := r.db.ExecContext(ctx, `create table rounds (id integer primary key, tbl text, result text, void integer)`); err != nil {
		return err
	}
	for i := range 300 {
		if _, err := r.db.ExecContext(ctx, `insert into rounds values (?,?,?,?)`, i, fmt.Sprintf("t%d", i%9), "red", i%10/9); err != nil {
			return err
		}
	}
	return nil
}

// Latest gives the newest round of a table that counts.
func (r *Rounds) Latest(ctx context.Context, table string, before int64) (*RoundInfo, error) {
	rows, err := r.db.QueryContext(ctx, `select id, tbl, result, void from rounds where tbl=? and id<=? order by id desc`, table, before) // want: pool-leaked
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var info RoundInfo
		var void bool
		if err := rows.Scan(&info.ID, &info.Table, &info.Result, &void); err != nil {
			return nil, err
		}
		if void {
			continue
		}
		return &info, nil // want: pool-leaked
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return nil, errUnknown
}

// History is the service over the repository.
type History struct {
	rounds *Rounds
	failed atomic.Int64
}

func (h *History) Show(ctx context.Context, table string) (string, error) {
	info, err := h.rounds.Latest(context.WithoutCancel(ctx), table, rand.Int64N(300)) // want: pool-leaked
	if err != nil {
		h.failed.Add(1)
		return "", fmt.Errorf("history of %s: %w", table, err)
	}
	return info.Result, nil
}

// ---- markets ----

type Quote struct {
	odds atomic.Int64
	vol  int64
}

type Market struct {
	quotes [256]Quote
}

// each runs f on all quotes and waits.
func each[T any](items []T, f func(*T)) {
	var wg sync.WaitGroup
	for i := range items {
		wg.Add(1)
		go func() { // want: goroutine-churn
			defer wg.Done()
			f(&items[i])
		}()
	}
	wg.Wait()
}

func (m *Market) Reprice(swing int64) {
	each(m.quotes[:], func(q *Quote) { // want: goroutine-churn
		q.odds.Store(100 + (q.odds.Load()*7+swing+q.vol)%900)
	})
}

type Desk struct{ markets []*Market }

func (d *Desk) Run(ctx context.Context) {
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			for _, m := range d.markets {
				m.Reprice(rand.Int64N(50)) // want: goroutine-churn
			}
		}
	}
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

	dir, err := os.MkdirTemp("", "records")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite", filepath.Join(dir, "records.db")+"?_pragma=synchronous(off)")
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(10)
	rounds := &Rounds{db}
	if err := rounds.migrate(ctx); err != nil {
		log.Fatal(err)
	}
	a.AddPool("records", agent.SQLPool(db, dir))
	history := &History{rounds: rounds}
	for i := range 12 {
		go func() {
			for ctx.Err() == nil {
				_, _ = history.Show(ctx, fmt.Sprintf("t%d", i%9))
				time.Sleep(time.Duration(20+rand.IntN(60)) * time.Millisecond)
			}
		}()
	}
	desk := &Desk{}
	for range 12 {
		desk.markets = append(desk.markets, &Market{})
	}
	go desk.Run(ctx)
	<-ctx.Done()
}
