// Tx-left-open pays out bets.
package main

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

var errNothing = errors.New("nothing to pay")

type bank struct {
	db *sql.DB
	n  atomic.Int64
}

func (b *bank) inTx(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := b.db.BeginTx(ctx, nil) // want: pool-leaked
	if err != nil {
		return err
	}
	switch err := do(tx); {
	case errors.Is(err, errNothing):
		return nil
	case err != nil:
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

func (b *bank) pay(ctx context.Context) error {
	return b.inTx(ctx, func(tx *sql.Tx) error { // want: pool-leaked
		if b.n.Add(1)%50 == 0 {
			return errNothing
		}
		_, err := tx.ExecContext(ctx, "update wallets set chips = chips + 1")
		return err
	})
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(2*time.Millisecond)))
	s := stage.Start()
	db, err := sql.Open("pgx", "postgres://game@"+s.Spawn("db")+"/game?sslmode=disable&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(9)
	b := &bank{db: db}
	mux := http.NewServeMux()
	mux.HandleFunc("/pay", func(w http.ResponseWriter, _ *http.Request) {
		if err := b.pay(context.Background()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/pay", Users: 30, Pause: 20 * time.Millisecond})
	s.Wait()
}
