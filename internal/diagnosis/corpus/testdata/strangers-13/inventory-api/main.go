// inventory-api tells what items a player owns and whether a pack may be opened.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"strconv"
	"time"

	_ "modernc.org/sqlite"
)

var errLocked = errors.New("pack is locked")

type store struct{ db *sql.DB }

type item struct {
	ID     int64  `json:"id"`
	Kind   string `json:"kind"`
	Rarity int    `json:"rarity"`
}

func openStore(path string) (*store, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)&_pragma=busy_timeout(2000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12)
	if _, err := db.Exec(`CREATE TABLE items(id INTEGER PRIMARY KEY, player INTEGER, kind TEXT, rarity INTEGER);
		CREATE INDEX items_player ON items(player)`); err != nil {
		return nil, err
	}
	tx, err := db.Begin()
	if err != nil {
		return nil, err
	}
	for i := 0; i < 6000; i++ {
		kind := [...]string{"card", "skin", "pack"}[i%3]
		if _, err := tx.Exec(`INSERT INTO items(player, kind, rarity) VALUES(?,?,?)`, i/12, kind, rand.IntN(100)); err != nil {
			return nil, err
		}
	}
	return &store{db: db}, tx.Commit()
}

func (s *store) Items(ctx context.Context, player int) ([]item, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id, kind, rarity FROM items WHERE player=?`, player)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []item
	for rows.Next() {
		var it item
		if err := rows.Scan(&it.ID, &it.Kind, &it.Rarity); err != nil {
			return nil, err
		}
		out = append(out, it)
	}
	return out, rows.Err()
}

// Openable adds up the packs a player may open now.
func (s *store) Openable(ctx context.Context, player int) (int, error) {
	rows, err := s.db.Query(`SELECT id, rarity FROM items WHERE player=? AND kind='pack'`, player) // want: pool-leaked
	if err != nil {
		return 0, err
	}
	n := 0
	for rows.Next() {
		var id int64
		var rarity int
		if err := rows.Scan(&id, &rarity); err != nil {
			return 0, err // want: pool-leaked
		}
		if rarity > 97 {
			return 0, fmt.Errorf("item %d: %w", id, errLocked) // want: pool-leaked
		}
		n++
	}
	return n, rows.Err()
}

type api struct {
	store *store
	mux   http.ServeMux
}

func (a *api) routes() {
	a.mux.HandleFunc("GET /items", a.withDeadline(func(ctx context.Context, player int) (any, error) {
		return a.store.Items(ctx, player)
	}))
	a.mux.HandleFunc("GET /packs", a.withDeadline(func(ctx context.Context, player int) (any, error) {
		n, err := a.store.Openable(ctx, player)
		if errors.Is(err, errLocked) {
			return map[string]any{"openable": 0, "locked": true}, nil
		}
		return map[string]any{"openable": n}, err
	}))
}

func (a *api) withDeadline(f func(context.Context, int) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
		defer cancel()
		player, _ := strconv.Atoi(r.URL.Query().Get("player"))
		v, err := f(ctx, player)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(v)
	}
}

func main() {
	dir, err := os.MkdirTemp("", "inventory")
	if err != nil {
		log.Fatal(err)
	}
	st, err := openStore(filepath.Join(dir, "inv.db"))
	if err != nil {
		log.Fatal(err)
	}
	a := &api{store: st}
	a.routes()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, &a.mux)) }()

	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 40}, Timeout: 5 * time.Second}
	for i := 0; i < 40; i++ {
		path := "items"
		if i%4 == 0 {
			path = "packs"
		}
		go func() {
			for {
				resp, err := hc.Get(fmt.Sprintf("http://%s/%s?player=%d", ln.Addr(), path, rand.IntN(500)))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(60+rand.IntN(80)) * time.Millisecond)
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
