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

var errUnranked = errors.New("unranked")

type ranks struct {
	db *sql.DB
}

func (s *ranks) adjust(ctx context.Context, player int64, delta int) error {
	conn, err := s.db.Conn(ctx) // want: pool-leaked
	if err != nil {
		return err
	}
	var id, rank int64
	if err := conn.QueryRowContext(ctx, "select id, rank from ranks where id = ?", player).Scan(&id, &rank); err != nil {
		conn.Close()
		return err
	}
	if rank == 0 {
		return errUnranked // want: pool-leaked
	}
	defer conn.Close()
	_, err = conn.ExecContext(ctx, "update ranks set rank = ? where id = ?", rank+int64(delta), player)
	return err
}

type resultQueue struct {
	store *ranks
}

func (q *resultQueue) work(parent context.Context) {
	for parent.Err() == nil {
		ctx, cancel := context.WithTimeout(parent, 1500*time.Millisecond)
		err := q.store.adjust(ctx, rand.Int63n(5000), rand.Intn(31)-15)
		cancel()
		if err != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	sql.Register("mem", memDriver{2 * time.Millisecond})
	db, err := sql.Open("mem", "ranks")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { go db.Close() }()
	db.SetMaxOpenConns(10)
	q := &resultQueue{store: &ranks{db: db}}
	for i := 0; i < 30; i++ {
		go q.work(ctx)
	}
	<-ctx.Done()
}
