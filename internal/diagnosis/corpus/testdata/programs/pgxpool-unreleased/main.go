// Pgxpool-unreleased reads inventories.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
	"time"
)

var errBanned = errors.New("the player is banned")

type repo struct {
	pool *pgxpool.Pool
	n    atomic.Int64
}

func (r *repo) items(ctx context.Context, player string) (string, error) {
	conn, err := r.pool.Acquire(ctx) // want: pool-leaked
	if err != nil {
		return "", err
	}
	if r.n.Add(1)%40 == 0 {
		return "", errBanned
	}
	var v string
	err = conn.QueryRow(ctx, "select items from inventory where player = $1", player).Scan(&v)
	conn.Release()
	return v, err
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(2*time.Millisecond)))
	s := stage.Start()
	addr := s.Spawn("db")
	pool, err := pgxpool.New(s.Context(), "postgres://game@"+addr+"/game?sslmode=disable&default_query_exec_mode=exec&pool_max_conns=10")
	if err != nil {
		panic(err)
	}
	r := &repo{pool: pool}
	_ = agent.SQLPool
	mux := http.NewServeMux()
	mux.HandleFunc("/items", func(w http.ResponseWriter, req *http.Request) {
		v, err := r.items(req.Context(), "7")
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		fmt.Fprint(w, v)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/items", Users: 40, Pause: 20 * time.Millisecond})
	s.Wait()
}
