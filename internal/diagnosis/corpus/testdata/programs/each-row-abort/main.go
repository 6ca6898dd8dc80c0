// Each-row-abort checks bets in the database.
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

type repo struct {
	db *sql.DB
	n  atomic.Int64
}

func each[T any](ctx context.Context, r *repo, query string, f func(T) error) error {
	rows, err := r.db.QueryContext(ctx, query) // want: pool-leaked
	if err != nil {
		return err
	}
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return err
		}
		if err := f(v); err != nil {
			return err
		}
	}
	return rows.Close()
}

var errLimit = errors.New("over the limit")

func (r *repo) check(ctx context.Context) error {
	return each(ctx, r, "select chips from bets", func(chips string) error { // want: pool-leaked
		if r.n.Add(1)%30 == 0 {
			return errLimit
		}
		return nil
	})
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(2*time.Millisecond)))
	s := stage.Start()
	db, err := sql.Open("pgx", "postgres://game@"+s.Spawn("db")+"/game?sslmode=disable&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(8)
	r := &repo{db: db}
	mux := http.NewServeMux()
	mux.HandleFunc("/check", func(w http.ResponseWriter, _ *http.Request) {
		if err := r.check(context.Background()); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/check", Users: 30, Pause: 20 * time.Millisecond})
	s.Wait()
}
