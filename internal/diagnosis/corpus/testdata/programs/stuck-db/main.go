// Stuck-db reads balances.
package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type balances struct{ pool *pgxpool.Pool }

func (b *balances) read(ctx context.Context, id string) (value string, err error) {
	rows, err := b.pool.Query(ctx, "select balance from wallets where id = $1", id) // want: downstream-wait
	if err != nil {
		return "", err
	}
	defer rows.Close()
	for rows.Next() { // want: downstream-wait
		if err := rows.Scan(&value); err != nil {
			return "", err
		}
	}
	return value, rows.Err()
}

func main() {
	stage.Child("db", standin.Postgres(func(sql string) time.Duration {
		if strings.HasPrefix(sql, "select") {
			return standin.Never
		}
		return 0
	}))
	s := stage.Start()
	pool, err := pgxpool.New(s.Context(), "postgres://game@"+s.Spawn("db")+"/game?sslmode=disable&pool_max_conns=100&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	b := &balances{pool}
	mux := http.NewServeMux()
	mux.HandleFunc("/balance", func(w http.ResponseWriter, r *http.Request) {
		v, err := b.read(context.WithoutCancel(r.Context()), r.FormValue("id"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(v))
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/balance?id=7", Users: 70})
	s.Wait()
}
