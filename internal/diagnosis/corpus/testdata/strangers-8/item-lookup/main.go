// Command item-lookup answers which player owns an item.
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
	"strconv"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// ---- item driver: answers from memory ----

type itemDriver struct{}

func (d itemDriver) Connect(context.Context) (driver.Conn, error) { return itemConn{}, nil }
func (d itemDriver) Driver() driver.Driver                        { return d }
func (d itemDriver) Open(string) (driver.Conn, error)             { return itemConn{}, nil }

type itemConn struct{}

func (itemConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not prepared") }
func (itemConn) Close() error                        { return nil }
func (itemConn) Begin() (driver.Tx, error)           { return nil, errors.New("no transactions") }
func (itemConn) QueryContext(_ context.Context, _ string, args []driver.NamedValue) (driver.Rows, error) {
	time.Sleep(2 * time.Millisecond)
	id, _ := args[0].Value.(int64)
	if id%25 != 0 {
		return &itemRows{}, nil
	}
	return &itemRows{vals: []int64{id * 7, id * 11}}, nil
}

type itemRows struct{ vals []int64 }

func (*itemRows) Columns() []string { return []string{"owner"} }
func (*itemRows) Close() error      { return nil }
func (r *itemRows) Next(dst []driver.Value) error {
	if len(r.vals) == 0 {
		return io.EOF
	}
	dst[0], r.vals = r.vals[0], r.vals[1:]
	return nil
}

// ---- small query layer ----

type Querier interface {
	Query(query string, args ...any) (*sql.Rows, error)
}

type Scanner interface{ Scan(dst ...any) error }

// First gives the first row that pick accepts.
func First[T any](q Querier, pick func(Scanner) (T, bool, error), query string, args ...any) (v T, ok bool, err error) {
	rows, err := q.Query(query, args...) // want: pool-leaked
	if err != nil {
		return v, false, err
	}
	for rows.Next() { // want: pool-leaked
		v, ok, err = pick(rows)
		if err != nil || ok {
			return v, ok, err // want: pool-leaked
		}
	}
	return v, false, errors.Join(rows.Err(), rows.Close())
}

// ---- inventory ----

type Inventory struct{ db Querier }

func (i *Inventory) OwnerOf(item int64) (int64, bool, error) {
	return First(i.db, func(s Scanner) (owner int64, ok bool, err error) {
		err = s.Scan(&owner)
		return owner, owner > 0, err
	}, "select owner from owners where item = $1 order by since desc", item)
}

type lookup struct{ inv *Inventory }

func (l lookup) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	item, err := strconv.ParseInt(r.FormValue("item"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	owner, ok, err := l.inv.OwnerOf(item)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case !ok:
		http.NotFound(w, r)
	default:
		fmt.Fprintln(w, owner)
	}
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// drive lets n clients call url, each pausing between its calls.
func drive(ctx context.Context, n int, pause time.Duration, url func() string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for range n {
		go func() {
			for ctx.Err() == nil {
				if resp, err := client.Get(url()); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(pause)
			}
		}()
	}
}

// observe serves the profiles and joins the centre.
func observe() *agent.Agent {
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
	return a
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	a := observe()
	defer a.Close()

	db := sql.OpenDB(itemDriver{})
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	db.SetConnMaxIdleTime(time.Minute)
	a.AddPool("items", agent.SQLPool(db, "items:3306"))
	url := serve(lookup{&Inventory{db}})
	drive(ctx, 36, 25*time.Millisecond, func() string { return fmt.Sprintf("%s/?item=%d", url, 1+rand.IntN(1e6)) })
	<-ctx.Done()
}
