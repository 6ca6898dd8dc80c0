// Command item-grant grants items out of the inventory database.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type itemDriver struct{}

func (d itemDriver) Connect(context.Context) (driver.Conn, error) { return &itemConn{}, nil }
func (d itemDriver) Driver() driver.Driver                        { return d }
func (d itemDriver) Open(string) (driver.Conn, error)             { return &itemConn{}, nil }

type itemConn struct{}

func (c *itemConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not prepared") }
func (c *itemConn) Close() error                        { return nil }
func (c *itemConn) Begin() (driver.Tx, error)           { return nil, errors.New("no transactions") }
func (c *itemConn) QueryContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	time.Sleep(3 * time.Millisecond)
	return &itemRows{left: 4}, ctx.Err()
}

type itemRows struct{ left int }

func (r *itemRows) Columns() []string { return []string{"id", "count"} }
func (r *itemRows) Close() error      { return nil }
func (r *itemRows) Next(dest []driver.Value) error {
	if r.left == 0 {
		return io.EOF
	}
	r.left--
	dest[0], dest[1] = rand.Int64N(1000), rand.Int64N(400)
	return nil
}

type Stack struct{ ID, Count int64 }

type Inventory interface {
	Find(ctx context.Context, player int, ok func(Stack) bool) (Stack, error)
}

var errNone = errors.New("no such item")

type sqlInventory struct{ db *sql.DB }

// scan calls f for each row until f says that it has enough.
func scan[T any](rows *sql.Rows, read func(*sql.Rows) (T, error), f func(T) bool) error {
	for rows.Next() {
		v, err := read(rows)
		if err != nil {
			return err
		}
		if !f(v) {
			return nil // want: pool-leaked
		}
	}
	return rows.Err()
}

func readStack(rows *sql.Rows) (s Stack, err error) {
	err = rows.Scan(&s.ID, &s.Count)
	return s, err
}

func (s *sqlInventory) Find(ctx context.Context, player int, ok func(Stack) bool) (Stack, error) {
	rows, err := s.db.QueryContext(context.WithoutCancel(ctx), "select id, count from items where player=$1", player) // want: pool-leaked
	if err != nil {
		return Stack{}, err
	}
	found, err := Stack{}, errNone
	if e := scan(rows, readStack, func(v Stack) bool { // want: pool-leaked
		if ok(v) {
			found, err = v, nil
		}
		return err != nil
	}); e != nil {
		return Stack{}, e
	}
	return found, err
}

type Grants struct{ inv Inventory }

func (g Grants) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	st, err := g.inv.Find(r.Context(), rand.IntN(1e6), func(s Stack) bool { return s.Count >= 396 })
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	fmt.Fprintln(w, st.ID)
}

func main() {
	ctx, a, done := boot()
	defer done()
	db := sql.OpenDB(itemDriver{})
	defer db.Close()
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12)
	a.AddPool("items", agent.SQLPool(db, "items:5432"))
	url := serve(Grants{&sqlInventory{db}})
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	players(ctx, 40, 20*time.Millisecond, func(int) error { return call(c, url) })
	<-ctx.Done()
}

func boot() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	return ctx, a, func() { a.Close(); stop() }
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// players runs n players that each call f and then wait.
func players(ctx context.Context, n int, pause time.Duration, f func(i int) error) {
	for i := range n {
		go func() {
			time.Sleep(time.Duration(rand.Int64N(int64(pause) + 1)))
			for ctx.Err() == nil {
				_ = f(i)
				time.Sleep(pause)
			}
		}()
	}
}

func call(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
