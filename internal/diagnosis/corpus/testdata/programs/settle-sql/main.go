// Settle-sql writes results through database/sql.
package main

import (
	"context"
	"database/sql"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type result struct{ round, player, won int64 }

type ledger interface {
	write(ctx context.Context, r result) error
}

type sqlLedger struct{ db *sql.DB }

func (l sqlLedger) write(ctx context.Context, r result) error {
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "insert into results values ($1, $2, $3)", r.round, r.player, r.won); err != nil { // want: downstream-wait
		return err
	}
	return tx.Commit()
}

func settle(ctx context.Context, l ledger, results <-chan result) {
	for r := range results {
		_ = l.write(ctx, r)
	}
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(300*time.Millisecond)))
	s := stage.Start()
	db, err := sql.Open("pgx", "postgres://game@"+s.Spawn("db")+"/game?sslmode=disable&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	results := make(chan result, 4096)
	for range 48 {
		go settle(s.Context(), sqlLedger{db}, results)
	}
	go func() {
		for n := int64(0); ; n++ {
			results <- result{n, n % 100, n % 7}
			time.Sleep(7 * time.Millisecond)
		}
	}()
	s.Wait()
}
