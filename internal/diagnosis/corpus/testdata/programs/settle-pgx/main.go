// Settle-pgx writes the results of games to a database.
package main

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type round struct {
	id     int64
	amount int64
}

type recorder struct {
	pool *pgxpool.Pool
	in   chan round
}

func (r *recorder) run(ctx context.Context) {
	for rd := range r.in {
		_ = r.settle(ctx, rd)
	}
}

func (r *recorder) settle(ctx context.Context, rd round) error {
	_, err := r.pool.Exec(ctx, "insert into rounds (id, amount) values ($1, $2)", rd.id, rd.amount) // want: downstream-wait
	return err
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(400*time.Millisecond)))
	s := stage.Start()
	ctx := s.Context()
	db := s.Spawn("db")
	pool, err := pgxpool.New(ctx, "postgres://game@"+db+"/game?sslmode=disable&pool_max_conns=80&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	r := &recorder{pool: pool, in: make(chan round, 1024)}
	var workers sync.WaitGroup
	for range 60 {
		workers.Go(func() { r.run(ctx) })
	}
	go func() {
		tick := time.NewTicker(7 * time.Millisecond)
		defer tick.Stop()
		for n := int64(0); ; n++ {
			<-tick.C
			r.in <- round{n, n * 3 % 1000}
		}
	}()
	s.Wait()
}
