// Command ok-purse-api reads purses from the database.
package main

import (
	"bufio"
	"context"
	"database/sql"
	"database/sql/driver"
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
	"runtime"
	"strings"
	"time"
)

type connector struct{ addr string }

func (c connector) Driver() driver.Driver { return nil }
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, err
	}
	return &wire{nc, bufio.NewReader(nc)}, nil
}

type wire struct {
	net.Conn
	r *bufio.Reader
}

func (w *wire) Begin() (driver.Tx, error)           { return nil, errors.New("no transactions") }
func (w *wire) Prepare(string) (driver.Stmt, error) { return nil, errors.New("no statements") }
func (w *wire) QueryContext(_ context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	fmt.Fprintf(w.Conn, "%s %v\n", q, args[0].Value)
	line, err := w.r.ReadString('\n')
	if err != nil {
		return nil, driver.ErrBadConn
	}
	return &rows{left: strings.Fields(line)}, nil
}

type rows struct{ left []string }

func (r *rows) Columns() []string { return []string{"coin"} }
func (r *rows) Close() error      { return nil }
func (r *rows) Next(dst []driver.Value) error {
	if len(r.left) == 0 {
		return io.EOF
	}
	dst[0], r.left = r.left[0], r.left[1:]
	return nil
}

type purses struct{ db *sql.DB }

func (p purses) coins(ctx context.Context, player int) (out []string, err error) {
	rows, err := p.db.QueryContext(ctx, "coins", player)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c string
		if err := rows.Scan(&c); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

func (p purses) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := p.coins(r.Context(), rand.IntN(10_000))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	json.NewEncoder(w).Encode(c)
}

func listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return l
}

func database(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for sc := bufio.NewScanner(c); sc.Scan(); {
				time.Sleep(time.Millisecond)
				fmt.Fprintf(c, "gold:%d gems:%d\n", rand.IntN(999), rand.IntN(99))
			}
		}()
	}
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	dl, l := listen(), listen()
	go database(dl)
	db := sql.OpenDB(connector{dl.Addr().String()})
	db.SetMaxOpenConns(10)
	db.SetMaxIdleConns(10)
	go http.Serve(l, purses{db})

	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	for range 12 {
		go func() {
			for {
				res, err := hc.Get("http://" + l.Addr().String())
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(rand.N(30 * time.Millisecond))
			}
		}()
	}
	select {}
}
