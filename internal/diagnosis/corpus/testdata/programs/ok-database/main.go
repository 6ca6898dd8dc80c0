// Ok-database reads from a fast database with room in its pool.
package main

import (
	"database/sql"
	"fmt"
	"net/http"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type store struct{ db *sql.DB }

func (s *store) balance(w http.ResponseWriter, r *http.Request) {
	var value string
	err := s.db.QueryRowContext(r.Context(), "select balance from wallets where id = $1", r.FormValue("id")).Scan(&value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, value)
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(3*time.Millisecond)))
	s := stage.Start()
	addr := s.Spawn("db")
	db, err := sql.Open("pgx", "postgres://game@"+addr+"/game?sslmode=disable&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	s.Agent.AddPool("wallets", agent.SQLPool(db, addr))
	mux := http.NewServeMux()
	mux.HandleFunc("/balance", (&store{db}).balance)
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/balance?id=7", PerSecond: 400})
	s.Wait()
}
