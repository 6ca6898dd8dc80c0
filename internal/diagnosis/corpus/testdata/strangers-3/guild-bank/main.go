// Command guild-bank keeps the treasuries of the guilds.
package main

import (
	"bufio"
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
	_ "net/http/pprof"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// The wire protocol of the bank's database: a line each way.

type dialer struct{ addr string }

func (d dialer) Connect(ctx context.Context) (driver.Conn, error) {
	var nd net.Dialer
	c, err := nd.DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	return &bankConn{Conn: c, r: bufio.NewReader(c)}, nil
}
func (d dialer) Driver() driver.Driver { return nil }

type bankConn struct {
	net.Conn
	r *bufio.Reader
}

var errUnsupported = errors.New("bank: unsupported")

func (c *bankConn) Prepare(string) (driver.Stmt, error) { return nil, errUnsupported }
func (c *bankConn) Begin() (driver.Tx, error)           { return nil, errUnsupported }

func (c *bankConn) QueryContext(_ context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	if _, err := fmt.Fprintf(c.Conn, "%s %v\n", q, args[0].Value); err != nil {
		return nil, driver.ErrBadConn
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		return nil, driver.ErrBadConn
	}
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	return &oneRow{n: n}, err
}

type oneRow struct {
	n    int64
	done bool
}

func (r *oneRow) Columns() []string { return []string{"amount"} }
func (r *oneRow) Close() error      { return nil }
func (r *oneRow) Next(dst []driver.Value) error {
	if r.done {
		return io.EOF
	}
	dst[0], r.done = r.n, true
	return nil
}

func backend() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for sc := bufio.NewScanner(c); sc.Scan(); {
					time.Sleep(25*time.Millisecond + rand.N(10*time.Millisecond))
					fmt.Fprintf(c, "%d\n", rand.IntN(1_000_000))
				}
			}()
		}
	}()
	return l.Addr().String()
}

type treasury struct{ db *sql.DB }

func (t *treasury) balance(ctx context.Context, guild int) (n int64, err error) {
	err = t.db.QueryRowContext(ctx, "balance", guild).Scan(&n) // want: pool-exhausted
	return n, err
}

func (t *treasury) show(w http.ResponseWriter, r *http.Request) {
	guild, err := strconv.Atoi(r.PathValue("guild"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	n, err := t.balance(r.Context(), guild)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, n)
}

func main() {
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	db := sql.OpenDB(dialer{backend()})
	db.SetMaxOpenConns(3)
	db.SetMaxIdleConns(3)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /guild/{guild}/balance", (&treasury{db}).show)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	for i := range 90 {
		go func() {
			for {
				res, err := hc.Get(fmt.Sprintf("http://%s/guild/%d/balance", l.Addr(), i))
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(rand.N(200 * time.Millisecond))
			}
		}()
	}
	select {}
}
