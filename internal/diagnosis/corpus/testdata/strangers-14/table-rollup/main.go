package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite"
)

type line struct {
	Table int   `json:"table"`
	Hands int   `json:"hands"`
	Turn  int64 `json:"turnover"`
}

const (
	tables      = 16
	connections = 4
)

type rollup struct {
	db   *sql.DB
	last atomic.Pointer[[]line]
}

func open(dir string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "hands.db")+"?_pragma=journal_mode(WAL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	if _, err := db.Exec(`create table hands (tbl integer not null, turnover integer not null)`); err != nil {
		return nil, err
	}
	if _, err := db.Exec(`create index hands_tbl on hands (tbl, turnover)`); err != nil {
		return nil, err
	}
	tx, err := db.Begin()
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	ins, err := tx.Prepare(`insert into hands values (?, ?)`)
	if err != nil {
		return nil, err
	}
	defer ins.Close()
	for i := range 6000 {
		if _, err := ins.Exec(i%tables, rand.IntN(1000)); err != nil {
			return nil, err
		}
	}
	return db, tx.Commit()
}

func (r *rollup) one(ctx context.Context, table int) (line, error) {
	rows, err := r.db.QueryContext(ctx, `select turnover from hands where tbl = ?`, table)
	if err != nil {
		return line{}, err
	}
	defer rows.Close()
	l := line{Table: table}
	for rows.Next() {
		var t int64
		if err := rows.Scan(&t); err != nil {
			return line{}, err
		}
		l.Hands++
		l.Turn += t
	}
	return l, rows.Err()
}

// refresh reads all tables, never with more queries at once than connections.
func (r *rollup) refresh(ctx context.Context) error {
	lines := make([]line, tables)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(connections)
	for t := range tables {
		g.Go(func() (err error) {
			lines[t], err = r.one(ctx, t)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	r.last.Store(&lines)
	return nil
}

func (r *rollup) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(*r.last.Load())
}

func main() {
	dir, err := os.MkdirTemp("", "rollup")
	if err != nil {
		log.Fatal(err)
	}
	db, err := open(dir)
	if err != nil {
		log.Fatal(err)
	}
	r := &rollup{db: db}
	if err := r.refresh(context.Background()); err != nil {
		log.Fatal(err)
	}
	go func() {
		for range time.Tick(400 * time.Millisecond) {
			if err := r.refresh(context.Background()); err != nil {
				log.Print(err)
			}
		}
	}()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, r)) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 15}}
	for range 15 {
		go func() {
			for {
				resp, err := client.Get("http://" + ln.Addr().String())
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				time.Sleep(time.Duration(50+rand.IntN(50)) * time.Millisecond)
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
