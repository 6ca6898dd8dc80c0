// Command round-settlement closes game rounds exactly once: a per-round
// advisory lock in Postgres guards the ledger posting.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
)

type AdvisoryLocker struct{ pool *pgxpool.Pool }

func (l *AdvisoryLocker) WithRound(ctx context.Context, round int64, fn func(context.Context) error) error {
	conn, err := l.pool.Acquire(ctx) // want: pool-leaked
	if err != nil {
		return fmt.Errorf("locker: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "select pg_advisory_lock($1)", round); err != nil {
		return err
	}
	err = fn(ctx)
	_, uerr := conn.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock($1)", round)
	return errors.Join(err, uerr)
}

type Ledger struct{ pool *pgxpool.Pool }

func (l *Ledger) Post(ctx context.Context, round, amount int64) error {
	var id string
	row := l.pool.QueryRow(ctx, "insert into ledger(round_id, amount) values ($1,$2) returning id", round, amount) // want: pool-leaked
	if err := row.Scan(&id); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

type Settler struct {
	locks  *AdvisoryLocker
	ledger *Ledger
	failed atomic.Int64
}

func (s *Settler) Settle(ctx context.Context, round int64) error {
	return s.locks.WithRound(ctx, round, func(ctx context.Context) error {
		return s.ledger.Post(ctx, round, round%900+100)
	})
}

func (s *Settler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var round int64
	_, _ = fmt.Sscan(r.URL.Query().Get("round"), &round)
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := s.Settle(ctx, round); err != nil {
		s.failed.Add(1)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// pgStub answers the simple protocol, two milliseconds per statement.
func pgStub(c net.Conn) {
	defer c.Close()
	be := pgproto3.NewBackend(c, c)
	if _, err := be.ReceiveStartupMessage(); err != nil {
		return
	}
	be.Send(&pgproto3.AuthenticationOk{})
	be.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	be.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	be.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for be.Flush() == nil {
		msg, err := be.Receive()
		if err != nil {
			return
		}
		q, ok := msg.(*pgproto3.Query)
		if !ok {
			return
		}
		time.Sleep(2 * time.Millisecond)
		be.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("id"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1}}})
		be.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("1")}})
		be.Send(&pgproto3.CommandComplete{CommandTag: []byte(strings.ToUpper(q.String[:6]) + " 1")})
		be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}

func listen(serve func(net.Conn)) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return ln.Addr().String()
}

func gameServer(url string, next *atomic.Int64) {
	for {
		resp, err := http.Post(fmt.Sprintf("%s?round=%d", url, next.Add(1)), "", nil)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func main() {
	cfg, err := pgxpool.ParseConfig("postgres://svc@" + listen(pgStub) + "/game?sslmode=disable")
	if err != nil {
		log.Fatal(err)
	}
	cfg.MaxConns = 8
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	s := &Settler{locks: &AdvisoryLocker{pool}, ledger: &Ledger{pool}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, s)) }()
	var seq atomic.Int64
	for range 40 {
		go gameServer("http://"+ln.Addr().String()+"/settle", &seq)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
