package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"log"
	"math/rand"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type memDriver struct{ latency time.Duration }

func (d memDriver) Open(string) (driver.Conn, error) { return &memConn{d.latency}, nil }

type memConn struct{ latency time.Duration }

func (c *memConn) Prepare(q string) (driver.Stmt, error) { return &memStmt{c}, nil }
func (c *memConn) Close() error                          { return nil }
func (c *memConn) Begin() (driver.Tx, error)             { return nil, errors.New("unsupported") }

type memStmt struct{ c *memConn }

func (s *memStmt) Close() error  { return nil }
func (s *memStmt) NumInput() int { return -1 }
func (s *memStmt) Exec([]driver.Value) (driver.Result, error) {
	time.Sleep(s.c.latency)
	return driver.RowsAffected(1), nil
}
func (s *memStmt) Query(args []driver.Value) (driver.Rows, error) {
	time.Sleep(s.c.latency)
	id, _ := args[0].(int64)
	return &memRows{id: id}, nil
}

type memRows struct {
	id   int64
	done bool
}

func (r *memRows) Columns() []string { return []string{"id", "rank"} }
func (r *memRows) Close() error      { return nil }
func (r *memRows) Next(dst []driver.Value) error {
	if r.done {
		return io.EOF
	}
	r.done = true
	dst[0], dst[1] = r.id, r.id%50
	return nil
}

type results struct {
	db *sql.DB
}

func (s *results) settle(ctx context.Context, player int64) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var id, rank int64
	if err := conn.QueryRowContext(ctx, "select id, rank from ranks where id = ?", player).Scan(&id, &rank); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "update ranks set rank = ? where id = ?", rank+1, player)
	return err
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	sql.Register("mem", memDriver{3 * time.Millisecond})
	db, err := sql.Open("mem", "results")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12)
	s := &results{db: db}
	for i := 0; i < 12; i++ {
		go func() {
			for ctx.Err() == nil {
				if err := s.settle(ctx, rand.Int63n(5000)); err != nil && ctx.Err() == nil {
					log.Println(err)
				}
				time.Sleep(time.Duration(rand.Intn(4)) * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}
