// Settle-sql-pool books transactions through database/sql.
package main

import (
	"context"
	"database/sql"
	"net/http"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type bank struct{ db *sql.DB }

func (b *bank) withTx(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := b.db.BeginTx(ctx, nil) // want: pool-exhausted
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

func (b *bank) transfer(ctx context.Context, from, to string) error {
	return b.withTx(ctx, func(tx *sql.Tx) error { // want: pool-exhausted
		if _, err := tx.ExecContext(ctx, "update wallets set balance = balance - 1 where id = $1", from); err != nil { // want: pool-exhausted
			return err
		}
		_, err := tx.ExecContext(ctx, "update wallets set balance = balance + 1 where id = $1", to) // want: pool-exhausted
		return err
	})
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(60*time.Millisecond)))
	s := stage.Start()
	addr := s.Spawn("db")
	db, err := sql.Open("pgx", "postgres://game@"+addr+"/game?sslmode=disable&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(5)
	db.SetMaxIdleConns(5)
	s.Agent.AddPool("bank", agent.SQLPool(db, addr))
	b := &bank{db}
	mux := http.NewServeMux()
	mux.HandleFunc("/transfer", func(w http.ResponseWriter, r *http.Request) {
		if err := b.transfer(r.Context(), "1", "2"); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/transfer", Users: 90, Pause: 20 * time.Millisecond})
	s.Wait()
}
