// Export-fast-db-pool exports reports; it keeps a connection while it renders.
package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"net/http"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type exporter struct {
	db      *sql.DB
	mailbox string
}

func (e *exporter) export(ctx context.Context) error {
	conn, err := e.db.Conn(ctx) // want: pool-exhausted
	if err != nil {
		return err
	}
	defer conn.Close()
	var value string
	if err := conn.QueryRowContext(ctx, "select body from reports").Scan(&value); err != nil {
		return err
	}
	return e.mail(ctx, value) // want: pool-exhausted
}

func (e *exporter) mail(ctx context.Context, value string) error {
	sum := sha256.Sum256([]byte(value))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.mailbox+hex.EncodeToString(sum[:]), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req) // want: pool-exhausted
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(time.Millisecond)))
	stage.Child("mail", standin.Web(standin.Always(300*time.Millisecond)))
	s := stage.Start()
	db, err := sql.Open("pgx", "postgres://game@"+s.Spawn("db")+"/game?sslmode=disable&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(4)
	e := &exporter{db, "http://" + s.Spawn("mail") + "/"}
	mux := http.NewServeMux()
	mux.HandleFunc("/export", func(w http.ResponseWriter, r *http.Request) {
		if err := e.export(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/export", Users: 50, Pause: 20 * time.Millisecond})
	s.Wait()
}
