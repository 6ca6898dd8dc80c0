// Stuck-tx redeems vouchers.
package main

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"strconv"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

var errUsed = errors.New("voucher is used")

type shop struct{ db *sql.DB }

func (s *shop) redeem(ctx context.Context, code string) error {
	tx, err := s.db.BeginTx(ctx, nil) // want: pool-leaked
	if err != nil {
		return err
	}
	var used string
	if err := tx.QueryRowContext(ctx, "select used from vouchers where code = $1", code).Scan(&used); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if n, _ := strconv.Atoi(used); n > 0 {
		return errUsed
	}
	if _, err := tx.ExecContext(ctx, "update vouchers set used = 1 where code = $1", code); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func main() {
	stage.Child("db", standin.Postgres(standin.Always(2*time.Millisecond)))
	s := stage.Start()
	db, err := sql.Open("pgx", "postgres://game@"+s.Spawn("db")+"/game?sslmode=disable&default_query_exec_mode=exec")
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(12)
	sh := &shop{db}
	jobs := make(chan string, 64)
	for range 32 {
		go func() {
			for code := range jobs {
				_ = sh.redeem(context.Background(), code)
			}
		}()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/redeem", func(w http.ResponseWriter, r *http.Request) {
		select {
		case jobs <- r.FormValue("code"):
		default:
			http.Error(w, "busy", http.StatusServiceUnavailable)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/redeem?code=x", Users: 5, Pause: 20 * time.Millisecond})
	s.Wait()
}
