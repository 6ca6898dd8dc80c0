// Stuck-rows looks players up.
package main

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

var errNone = errors.New("no such player")

type players struct{ db *sql.DB }

func (p *players) find(ctx context.Context, name string) (string, error) {
	rows, err := p.db.QueryContext(ctx, "select id from players where name = $1", name) // want: pool-leaked
	if err != nil {
		return "", err
	}
	if !rows.Next() {
		return "", errNone
	}
	var id string
	return id, rows.Scan(&id)
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(time.Millisecond)))
	s := stage.Start()
	addr := s.Spawn("db")
	db, err := sql.Open("pgx", "postgres://game@"+addr+"/game?sslmode=disable&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(10)
	s.Agent.AddPool("players", agent.SQLPool(db, addr))
	p := &players{db}
	mux := http.NewServeMux()
	mux.HandleFunc("/player", func(w http.ResponseWriter, r *http.Request) {
		id, err := p.find(context.WithoutCancel(r.Context()), r.FormValue("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(id))
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/player?name=ada", Users: 40, Pause: 10 * time.Millisecond})
	s.Wait()
}
