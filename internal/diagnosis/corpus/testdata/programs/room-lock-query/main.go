// Room-lock-query takes bets.
package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type room struct {
	pool *pgxpool.Pool

	mu   sync.Mutex
	bets map[int]int64
}

func (r *room) placeBet(ctx context.Context, player int, amount int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.pool.Exec(ctx, "insert into bets (player, amount) values ($1, $2)", player, amount) // want: lock-held-across-io
	if err != nil {
		return err
	}
	r.bets[player] += amount
	return nil
}

func (r *room) handle(w http.ResponseWriter, req *http.Request) {
	player, _ := strconv.Atoi(req.FormValue("player"))
	if err := r.placeBet(req.Context(), player, 10); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, "ok")
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(15*time.Millisecond)))
	s := stage.Start()
	pool, err := pgxpool.New(s.Context(), "postgres://game@"+s.Spawn("db")+"/game?sslmode=disable&pool_max_conns=20&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	r := &room{pool: pool, bets: map[int]int64{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/bet", r.handle)
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/bet?player=3", Users: 80, Pause: 10 * time.Millisecond})
	s.Wait()
}
