// Ok-pool-bursts reads in bursts that its pool smooths.
package main

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type reader struct{ pool *pgxpool.Pool }

func (r *reader) page(ctx context.Context) {
	var all sync.WaitGroup
	for n := range 14 {
		all.Go(func() {
			var value string
			_ = r.pool.QueryRow(ctx, "select row from pages where n = $1", n).Scan(&value)
		})
	}
	all.Wait()
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(2*time.Millisecond)))
	s := stage.Start()
	db := s.Spawn("db")
	pool, err := pgxpool.New(s.Context(), "postgres://game@"+db+"/game?sslmode=disable&pool_max_conns=10&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	s.Agent.AddPool("pages", agent.PoolFunc(func() agent.PoolStats {
		st := pool.Stat()
		return agent.PoolStats{
			Kind: "pgxpool", Remote: db,
			MaxOpen: int64(st.MaxConns()), Open: int64(st.TotalConns()), InUse: int64(st.AcquiredConns()), Idle: int64(st.IdleConns()),
			Waiting: -1, WaitCount: st.EmptyAcquireCount(), WaitDuration: st.EmptyAcquireWaitTime(),
		}
	}))
	r := &reader{pool}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for s.Context().Err() == nil {
		<-tick.C
		r.page(s.Context())
	}
	s.Wait()
}
