// bethistory answers "what did I bet last" queries from the bets table.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"strconv"
	"time"

	_ "modernc.org/sqlite"
)

type Bet struct {
	ID     int64  `json:"id"`
	Player int64  `json:"player"`
	Stake  int64  `json:"stake"`
	State  string `json:"state"`
}

type Store struct{ db *sql.DB }

func Open(path string) (*Store, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12)
	if _, err := db.Exec(`CREATE TABLE bets (id INTEGER PRIMARY KEY, player INTEGER, stake INTEGER, state TEXT)`); err != nil {
		return nil, err
	}
	tx, err := db.Begin()
	if err != nil {
		return nil, err
	}
	for i := range 4000 {
		state := "settled"
		if i%97 == 0 {
			state = "void"
		}
		if _, err := tx.Exec(`INSERT INTO bets (player, stake, state) VALUES (?, ?, ?)`, i%200, 1+i%50, state); err != nil {
			_ = tx.Rollback()
			return nil, err
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	_, err = db.Exec(`CREATE INDEX bets_player ON bets (player)`)
	return &Store{db: db}, err
}

var errVoided = errors.New("history contains a voided bet")

func (s *Store) Recent(ctx context.Context, player int64) ([]Bet, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id, player, stake, state FROM bets WHERE player = ? ORDER BY id DESC LIMIT 50`, player) // want: pool-leaked
	if err != nil {
		return nil, err
	}
	var out []Bet
	for rows.Next() {
		var b Bet
		if err := rows.Scan(&b.ID, &b.Player, &b.Stake, &b.State); err != nil {
			rows.Close()
			return nil, err
		}
		if b.State == "void" {
			return nil, fmt.Errorf("bet %d: %w", b.ID, errVoided) // want: pool-leaked
		}
		out = append(out, b)
	}
	return out, rows.Err()
}

type API struct{ store *Store }

func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	player, err := strconv.ParseInt(r.URL.Query().Get("player"), 10, 64)
	if err != nil {
		http.Error(w, "player", http.StatusBadRequest)
		return
	}
	// The query outlives the caller's connection: the answer is cached at the edge.
	bets, err := a.store.Recent(context.WithoutCancel(r.Context()), player)
	switch {
	case errors.Is(err, errVoided):
		http.Error(w, "manual review", http.StatusConflict)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		_ = json.NewEncoder(w).Encode(bets)
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	dir, err := os.MkdirTemp("", "bets")
	if err != nil {
		log.Fatal(err)
	}
	store, err := Open(filepath.Join(dir, "bets.db"))
	if err != nil {
		log.Fatal(err)
	}
	api := &API{store: store}

	visit := func() {
		req := httptest.NewRequest(http.MethodGet, fmt.Sprintf("/recent?player=%d", rand.IntN(200)), nil)
		api.ServeHTTP(httptest.NewRecorder(), req)
	}
	for range 40 {
		go func() {
			for {
				visit()
				time.Sleep(time.Duration(50+rand.IntN(50)) * time.Millisecond)
			}
		}()
	}
	select {}
}
