package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite"

	"golang.org/x/sync/errgroup"
)

type Movement struct {
	Slot   int
	Player int
	Cents  int
	Note   string
}

type Repo struct {
	db    *sql.DB
	put   *sql.Stmt
	last  *sql.Stmt
	total *sql.Stmt
}

func OpenRepo(ctx context.Context, dir string) (_ *Repo, err error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "ledger.db")+"?_pragma=journal_mode(wal)&_pragma=synchronous(off)&_pragma=busy_timeout(3000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	db.SetConnMaxIdleTime(5 * time.Minute)
	const ddl = `CREATE TABLE movement(slot INTEGER PRIMARY KEY, player INT, cents INT, note TEXT);
		CREATE INDEX by_player ON movement(player, slot)`
	if _, err := db.ExecContext(ctx, ddl); err != nil {
		return nil, err
	}
	r := &Repo{db: db}
	for dst, q := range map[**sql.Stmt]string{
		&r.put:   `INSERT OR REPLACE INTO movement VALUES(?,?,?,?)`,
		&r.last:  `SELECT slot, cents, note FROM movement WHERE player=? ORDER BY slot DESC LIMIT 10`,
		&r.total: `SELECT COALESCE(SUM(cents),0) FROM movement WHERE player=?`,
	} {
		if *dst, err = db.PrepareContext(ctx, q); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Repo) Last(ctx context.Context, player int) ([]Movement, error) {
	rows, err := r.last.QueryContext(ctx, player)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := make([]Movement, 0, 10)
	for rows.Next() {
		m := Movement{Player: player}
		if err := rows.Scan(&m.Slot, &m.Cents, &m.Note); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, rows.Err()
}

func (r *Repo) Total(ctx context.Context, player int) (n int, err error) {
	err = r.total.QueryRowContext(ctx, player).Scan(&n)
	return n, err
}

func (r *Repo) Save(ctx context.Context, batch []Movement) error {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	put := tx.StmtContext(ctx, r.put)
	defer put.Close()
	for _, m := range batch {
		if _, err := put.ExecContext(ctx, m.Slot, m.Player, m.Cents, m.Note); err != nil {
			return err
		}
	}
	return tx.Commit()
}

const (
	players = 400
	ring    = 20_000
)

func writer(ctx context.Context, r *Repo) error {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	batch := make([]Movement, 25)
	for seq := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		for i := range batch {
			batch[i] = Movement{Slot: seq % ring, Player: rand.IntN(players), Cents: rand.IntN(900) - 450, Note: fmt.Sprintf("round %d", seq)}
			seq++
		}
		if err := r.Save(ctx, batch); err != nil {
			return err
		}
	}
}

func reader(ctx context.Context, r *Repo) error {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(10+rand.IntN(15)) * time.Millisecond)
		p := rand.IntN(players)
		if _, err := r.Last(ctx, p); err != nil {
			return err
		}
		if _, err := r.Total(ctx, p); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func main() {
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	repo, err := OpenRepo(context.Background(), dir)
	if err != nil {
		log.Fatal(err)
	}
	g, ctx := errgroup.WithContext(context.Background())
	g.Go(func() error { return http.ListenAndServe(os.Getenv("ADDR"), nil) })
	g.Go(func() error { return writer(ctx, repo) })
	for range 24 {
		g.Go(func() error { return reader(ctx, repo) })
	}
	log.Fatal(g.Wait())
}
