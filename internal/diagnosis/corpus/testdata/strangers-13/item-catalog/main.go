// item-catalog answers the shop's questions about items, prices and stock from
// a local database.
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

var errSoldOut = errors.New("sold out")

type offer struct {
	ID    int64  `json:"id"`
	Title string `json:"title"`
	Price int64  `json:"price"`
	Stock int64  `json:"stock"`
}

type catalog struct {
	db   *sql.DB
	list *sql.Stmt
	one  *sql.Stmt
}

func openCatalog(path string) (*catalog, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)&_pragma=synchronous(off)&_pragma=busy_timeout(1000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	if _, err := db.Exec(`CREATE TABLE offers(id INTEGER PRIMARY KEY, shelf INTEGER, title TEXT, price INTEGER, stock INTEGER);
		CREATE INDEX offers_shelf ON offers(shelf)`); err != nil {
		return nil, err
	}
	tx, err := db.Begin()
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	for i := range 3000 {
		if _, err := tx.Exec(`INSERT INTO offers VALUES(?,?,?,?,?)`, i, i/10, fmt.Sprintf("offer %d", i), 100+i%900, i%40*1000); err != nil {
			return nil, err
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	c := &catalog{db: db}
	if c.list, err = db.Prepare(`SELECT id, title, price, stock FROM offers WHERE shelf=?`); err != nil {
		return nil, err
	}
	c.one, err = db.Prepare(`SELECT id, title, price, stock FROM offers WHERE id=?`)
	return c, err
}

func (c *catalog) shelf(ctx context.Context, n int) ([]offer, error) {
	rows, err := c.list.QueryContext(ctx, n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []offer
	for rows.Next() {
		var o offer
		if err := rows.Scan(&o.ID, &o.Title, &o.Price, &o.Stock); err != nil {
			return nil, err
		}
		if o.Stock == 0 && len(out) > 4 {
			return out, nil
		}
		out = append(out, o)
	}
	return out, rows.Err()
}

// buy reads and takes one piece within one transaction.
func (c *catalog) buy(ctx context.Context, id int) (offer, error) {
	var o offer
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return o, err
	}
	defer tx.Rollback()
	err = tx.QueryRowContext(ctx, `UPDATE offers SET stock = stock-1 WHERE id=? AND stock>0 RETURNING id, title, price, stock`, id).
		Scan(&o.ID, &o.Title, &o.Price, &o.Stock)
	if errors.Is(err, sql.ErrNoRows) {
		return o, errSoldOut
	}
	if err != nil {
		return o, err
	}
	return o, tx.Commit()
}

func routes(c *catalog) http.Handler {
	mux := http.NewServeMux()
	handle := func(f func(context.Context, int) (any, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			id, _ := strconv.Atoi(r.PathValue("id"))
			v, err := f(r.Context(), id)
			switch {
			case errors.Is(err, errSoldOut):
				http.Error(w, err.Error(), http.StatusConflict)
			case err != nil:
				http.Error(w, err.Error(), http.StatusInternalServerError)
			default:
				_ = json.NewEncoder(w).Encode(v)
			}
		}
	}
	mux.HandleFunc("GET /shelves/{id}", handle(func(ctx context.Context, id int) (any, error) { return c.shelf(ctx, id) }))
	mux.HandleFunc("POST /offers/{id}/buy", handle(func(ctx context.Context, id int) (any, error) { return c.buy(ctx, id) }))
	return mux
}

func main() {
	dir, err := os.MkdirTemp("", "catalog")
	if err != nil {
		log.Fatal(err)
	}
	c, err := openCatalog(filepath.Join(dir, "catalog.db"))
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, routes(c))) }()
	base := "http://" + ln.Addr().String()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 24}, Timeout: 2 * time.Second}
	drain := func(resp *http.Response, err error) {
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	for range 20 {
		go func() {
			for {
				drain(hc.Get(fmt.Sprintf("%s/shelves/%d", base, rand.IntN(300))))
				time.Sleep(time.Duration(60+rand.IntN(60)) * time.Millisecond)
			}
		}()
	}
	go func() {
		for range time.Tick(60 * time.Millisecond) {
			drain(hc.Post(fmt.Sprintf("%s/offers/%d/buy", base, rand.IntN(3000)), "", nil))
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
