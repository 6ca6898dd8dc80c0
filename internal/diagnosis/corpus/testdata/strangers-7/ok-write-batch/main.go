// Command ok-write-batch writes game records in batches; each shard has its connection.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type recDriver struct{ n atomic.Int64 }

func (d *recDriver) Connect(context.Context) (driver.Conn, error) { return &recConn{d}, nil }
func (d *recDriver) Driver() driver.Driver                        { return d }
func (d *recDriver) Open(string) (driver.Conn, error)             { return &recConn{d}, nil }

type recConn struct{ d *recDriver }

func (c *recConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("use exec") }
func (c *recConn) Close() error                        { return nil }
func (c *recConn) Begin() (driver.Tx, error)           { return recTx{}, nil }
func (c *recConn) ExecContext(ctx context.Context, _ string, args []driver.NamedValue) (driver.Result, error) {
	time.Sleep(25 * time.Millisecond)
	c.d.n.Add(int64(len(args)))
	return driver.RowsAffected(len(args)), ctx.Err()
}

type recTx struct{}

func (recTx) Commit() error   { return nil }
func (recTx) Rollback() error { return nil }

type Record struct {
	Room, Round int
	Payout      int64
}

// Shard owns one connection and one queue.
type Shard struct {
	conn *sql.Conn
	in   chan Record
	size int
	each time.Duration
}

func (s *Shard) Run(ctx context.Context) error {
	t := time.NewTicker(s.each)
	defer t.Stop()
	batch := make([]any, 0, s.size)
	for {
		select {
		case <-ctx.Done():
			return s.conn.Close()
		case r := <-s.in:
			if batch = append(batch, int64(r.Room)<<32|int64(r.Round)); len(batch) < s.size {
				continue
			}
		case <-t.C:
		}
		if len(batch) == 0 {
			continue
		}
		if _, err := s.conn.ExecContext(ctx, "insert into records select unnest($1)", batch...); err != nil {
			return err
		}
		batch = batch[:0]
	}
}

func main() {
	ctx, a, done := start()
	defer done()
	db := sql.OpenDB(&recDriver{})
	const shards = 4
	db.SetMaxOpenConns(shards)
	a.AddPool("records", agent.SQLPool(db, "records:5432"))
	all := make([]*Shard, shards)
	var wg sync.WaitGroup
	for i := range all {
		c, err := db.Conn(ctx)
		if err != nil {
			log.Fatal(err)
		}
		all[i] = &Shard{conn: c, in: make(chan Record, 1024), size: 200, each: 300 * time.Millisecond}
		wg.Go(func() {
			if err := all[i].Run(ctx); err != nil && ctx.Err() == nil {
				log.Print(err)
			}
		})
	}
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			wg.Wait()
			return
		case <-t.C:
			for j := range 6 {
				select {
				case all[(i+j)%shards].in <- Record{Room: j, Round: i, Payout: int64(i)}:
				default:
					log.Print("record dropped")
				}
			}
		}
	}
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
