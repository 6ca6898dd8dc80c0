package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite"
)

type replay struct {
	ID     int64
	Room   int
	Rounds int
}

type archive struct {
	db *sql.DB
}

func openArchive(dir string) (*archive, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "replays.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(2000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(6)
	db.SetMaxIdleConns(6)
	for _, stmt := range []string{
		`create table replays (id integer primary key, room integer not null, rounds integer not null)`,
		`create table tags (replay integer not null, tag text not null)`,
		`create index tags_replay on tags (replay)`,
	} {
		if _, err := db.Exec(stmt); err != nil {
			return nil, err
		}
	}
	tx, err := db.Begin()
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	for i := range 400 {
		if _, err := tx.Exec(`insert into replays values (?, ?, ?)`, i, i%20, 10+i%30); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(`insert into tags values (?, ?)`, i, fmt.Sprintf("season-%d", i%5)); err != nil {
			return nil, err
		}
	}
	return &archive{db: db}, tx.Commit()
}

func (a *archive) tags(ctx context.Context, id int64) ([]string, error) {
	rows, err := a.db.QueryContext(ctx, `select tag from tags where replay = ?`, id) // want: pool-leaked
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var t string
		if err := rows.Scan(&t); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, rows.Err()
}

// eachOfRoom hands every replay of a room to fn as it is read.
func (a *archive) eachOfRoom(ctx context.Context, room int, fn func(replay) error) error {
	rows, err := a.db.QueryContext(ctx, `select id, room, rounds from replays where room = ? order by id desc limit 20`, room)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r replay
		if err := rows.Scan(&r.ID, &r.Room, &r.Rounds); err != nil {
			return err
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return rows.Err()
}

type listing struct {
	archive *archive
	budget  time.Duration
}

func (l *listing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var room int
	if _, err := fmt.Sscan(r.URL.Query().Get("room"), &room); err != nil {
		http.Error(w, "bad room", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), l.budget)
	defer cancel()
	lines := make([]string, 0, 20)
	err := l.archive.eachOfRoom(ctx, room, func(rep replay) error {
		tags, err := l.archive.tags(ctx, rep.ID) // want: pool-leaked
		if err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%d %d rounds %v", rep.ID, rep.Rounds, tags))
		return nil
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		http.Error(w, "archive not answering", http.StatusGatewayTimeout)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		for _, s := range lines {
			fmt.Fprintln(w, s)
		}
	}
}

func viewers(base string, n int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for range n {
		go func() {
			for {
				resp, err := client.Get(fmt.Sprintf("%s/replays?room=%d", base, rand.IntN(20)))
				if err == nil {
					_ = resp.Body.Close()
				}
				time.Sleep(time.Duration(20+rand.IntN(60)) * time.Millisecond)
			}
		}()
	}
}

func main() {
	dir, err := os.MkdirTemp("", "replays")
	if err != nil {
		log.Fatal(err)
	}
	arch, err := openArchive(dir)
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/replays", &listing{archive: arch, budget: 5 * time.Second})
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	viewers("http://"+ln.Addr().String(), 40)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
