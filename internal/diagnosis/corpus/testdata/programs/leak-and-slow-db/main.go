// Leak-and-slow-db books bets, and follows each with a goroutine.
package main

import (
	"context"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type booker struct {
	pool    *pgxpool.Pool
	settled chan int
}

func (b *booker) book(ctx context.Context, id int) error {
	go b.follow(id)
	_, err := b.pool.Exec(ctx, "insert into bets values ($1)", id) // want: downstream-wait
	return err
}

func (b *booker) follow(id int) {
	for done := range b.settled { // want: goroutine-leak
		if done == id {
			return
		}
	}
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(400*time.Millisecond)))
	s := stage.Start()
	pool, err := pgxpool.New(s.Context(), "postgres://game@"+s.Spawn("db")+"/game?sslmode=disable&pool_max_conns=90&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	b := &booker{pool: pool, settled: make(chan int)}
	mux := http.NewServeMux()
	mux.HandleFunc("/bet", func(w http.ResponseWriter, r *http.Request) {
		if err := b.book(r.Context(), 7); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/bet", Users: 60, Pause: 20 * time.Millisecond})
	s.Wait()
}
