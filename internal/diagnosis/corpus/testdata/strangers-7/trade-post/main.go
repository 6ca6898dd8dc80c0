// Command trade-post exchanges items between inventories.
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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type invDriver struct{ stock []atomic.Int64 }

func (d *invDriver) Connect(context.Context) (driver.Conn, error) { return &invConn{d}, nil }
func (d *invDriver) Driver() driver.Driver                        { return d }
func (d *invDriver) Open(string) (driver.Conn, error)             { return &invConn{d}, nil }

type invConn struct{ d *invDriver }

func (c *invConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("use exec") }
func (c *invConn) Close() error                        { return nil }
func (c *invConn) Begin() (driver.Tx, error)           { return invTx{}, nil }
func (c *invConn) ExecContext(_ context.Context, _ string, args []driver.NamedValue) (driver.Result, error) {
	time.Sleep(2 * time.Millisecond)
	item, n := args[0].Value.(int64), args[1].Value.(int64)
	if c.d.stock[item].Add(n) < 0 {
		c.d.stock[item].Add(-n)
		return driver.RowsAffected(0), nil
	}
	return driver.RowsAffected(1), nil
}

type invTx struct{}

func (invTx) Commit() error   { time.Sleep(time.Millisecond); return nil }
func (invTx) Rollback() error { return nil }

var ErrStock = errors.New("not enough of it")

type Offer struct {
	Give, Take int64
	Count      int64
}

type Post struct {
	db   *sql.DB
	root context.Context
}

func (p *Post) move(tx *sql.Tx, item, n int64) (bool, error) {
	res, err := tx.ExecContext(p.root, "update inventory set n = n + $2 where item = $1 and n + $2 >= 0", item, n)
	if err != nil {
		return false, err
	}
	got, err := res.RowsAffected()
	return got == 1, err
}

// Exchange gives and takes, or does neither.
func (p *Post) Exchange(o Offer) error {
	tx, err := p.db.BeginTx(p.root, nil) // want: pool-leaked
	if err != nil {
		return err
	}
	ok, err := p.move(tx, o.Give, -o.Count)
	if err != nil {
		_ = tx.Rollback()
		return fmt.Errorf("give: %w", err)
	}
	if !ok {
		return ErrStock // want: pool-leaked
	}
	if _, err = p.move(tx, o.Take, o.Count); err != nil {
		_ = tx.Rollback()
		return fmt.Errorf("take: %w", err)
	}
	return tx.Commit()
}

func main() {
	ctx, a, done := start()
	defer done()
	d := &invDriver{stock: make([]atomic.Int64, 40)}
	for i := range d.stock {
		d.stock[i].Store(30)
	}
	db := sql.OpenDB(d)
	db.SetMaxOpenConns(10)
	db.SetMaxIdleConns(10)
	a.AddPool("inventory", agent.SQLPool(db, "inventory:5432"))
	post := &Post{db: db, root: ctx}

	srv := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := Offer{Give: rand.Int64N(40), Take: rand.Int64N(40), Count: 1 + rand.Int64N(9)}
		switch err := post.Exchange(o); {
		case errors.Is(err, ErrStock):
			w.WriteHeader(http.StatusConflict)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for range 36 {
		go func() {
			for ctx.Err() == nil {
				if resp, err := client.Post(srv, "text/plain", nil); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(40 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String() + "/"
}

// start gives the context of the process and joins the operations centre.
func start() (context.Context, *agent.Agent, func()) {
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
