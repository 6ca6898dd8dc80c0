// Settle-pgx-pool answers requests out of a database with a small pool.
package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type store struct{ pool *pgxpool.Pool }

func (s *store) balance(w http.ResponseWriter, r *http.Request) {
	var value string
	err := s.pool.QueryRow(r.Context(), "select balance from wallets where id = $1", r.FormValue("id")).Scan(&value) // want: pool-exhausted
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, value)
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(250*time.Millisecond)))
	s := stage.Start()
	db := s.Spawn("db")
	pool, err := pgxpool.New(s.Context(), "postgres://game@"+db+"/game?sslmode=disable&pool_max_conns=6&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	s.Agent.AddPool("wallets", agent.PoolFunc(func() agent.PoolStats {
		st := pool.Stat()
		return agent.PoolStats{
			Kind: "pgxpool", Remote: db,
			MaxOpen: int64(st.MaxConns()), Open: int64(st.TotalConns()), InUse: int64(st.AcquiredConns()), Idle: int64(st.IdleConns()),
			Waiting: -1, WaitCount: st.EmptyAcquireCount(), WaitDuration: st.EmptyAcquireWaitTime(),
		}
	}))
	h := &store{pool: pool}
	mux := http.NewServeMux()
	mux.HandleFunc("/balance", h.balance)
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/balance?id=7", Users: 120, Pause: 30 * time.Millisecond})
	s.Wait()
}
