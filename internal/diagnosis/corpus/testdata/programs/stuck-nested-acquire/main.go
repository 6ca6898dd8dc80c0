// Stuck-nested-acquire reports on tables and their players.
package main

import (
	"context"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type reports struct{ pool *pgxpool.Pool }

func (r *reports) table(ctx context.Context) (string, error) {
	conn, err := r.pool.Acquire(ctx) // want: pool-leaked
	if err != nil {
		return "", err
	}
	defer conn.Release()
	var table string
	if err := conn.QueryRow(ctx, "select id from tables").Scan(&table); err != nil {
		return "", err
	}
	return r.player(ctx, table) // want: pool-leaked
}

func (r *reports) player(ctx context.Context, table string) (string, error) {
	conn, err := r.pool.Acquire(ctx) // want: pool-leaked
	if err != nil {
		return "", err
	}
	defer conn.Release()
	var player string
	err = conn.QueryRow(ctx, "select player from seats where table_id = $1", table).Scan(&player)
	return player, err
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(20*time.Millisecond)))
	s := stage.Start()
	pool, err := pgxpool.New(s.Context(), "postgres://game@"+s.Spawn("db")+"/game?sslmode=disable&pool_max_conns=8&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	r := &reports{pool}
	mux := http.NewServeMux()
	mux.HandleFunc("/report", func(w http.ResponseWriter, req *http.Request) {
		text, err := r.table(context.WithoutCancel(req.Context()))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(text))
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/report", Users: 50})
	s.Wait()
}
