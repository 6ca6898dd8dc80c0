// purseread answers balances from the read replica.
package main

import (
	"context"
	"database/sql"
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

type Repo struct {
	db      *sql.DB
	balance *sql.Stmt
}

func NewRepo(ctx context.Context, dir string) (*Repo, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "purse.db")+"?_pragma=journal_mode(WAL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	if _, err := db.ExecContext(ctx, `CREATE TABLE purse (player INTEGER PRIMARY KEY, chips INTEGER NOT NULL)`); err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 2000)
		INSERT INTO purse SELECT i, 100 * i FROM n`); err != nil {
		return nil, err
	}
	stmt, err := db.PrepareContext(ctx, `SELECT chips FROM purse WHERE player = ?`)
	return &Repo{db: db, balance: stmt}, err
}

// Warm opens every connection of the pool, so the first players need not wait.
func (r *Repo) Warm(ctx context.Context) error {
	var held []*sql.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for range r.db.Stats().MaxOpenConnections {
		c, err := r.db.Conn(ctx)
		if err != nil {
			return err
		}
		held = append(held, c)
	}
	return nil
}

func (r *Repo) Chips(ctx context.Context, player int64) (chips int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	err = r.balance.QueryRowContext(ctx, player).Scan(&chips)
	return chips, err
}

func (r *Repo) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	player, err := strconv.ParseInt(req.FormValue("player"), 10, 64)
	if err != nil {
		http.Error(w, "player", http.StatusBadRequest)
		return
	}
	chips, err := r.Chips(req.Context(), player)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, chips)
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "purse")
	if err != nil {
		log.Fatal(err)
	}
	repo, err := NewRepo(ctx, dir)
	if err != nil {
		log.Fatal(err)
	}
	if err := repo.Warm(ctx); err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, repo)) }()

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	for range 10 {
		go func() {
			for {
				resp, err := client.Get(fmt.Sprintf("http://%s/?player=%d", ln.Addr(), 1+rand.IntN(2000)))
				if err != nil {
					log.Print(err)
				} else {
					if resp.StatusCode != http.StatusOK {
						log.Print(resp.Status)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(30+rand.IntN(20)) * time.Millisecond)
			}
		}()
	}
	for range time.Tick(5 * time.Second) {
		st := repo.db.Stats()
		log.Printf("open=%d inuse=%d waited=%d", st.OpenConnections, st.InUse, st.WaitCount)
	}
}
