// Command ledger-events follows Postgres notifications of the ledger, one
// connection for each currency, and answers balances.
package main

import (
	"context"
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

type Feed struct {
	pool *pgxpool.Pool
	seen atomic.Int64
}

// Follow keeps a connection for as long as ctx lives.
func (f *Feed) Follow(ctx context.Context, channel string) error {
	conn, err := f.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return err
	}
	for {
		if _, err := conn.Conn().WaitForNotification(ctx); err != nil {
			return err
		}
		f.seen.Add(1)
	}
}

func (f *Feed) supervise(ctx context.Context, channel string) {
	for ctx.Err() == nil {
		err := f.Follow(ctx, channel)
		log.Printf("feed %s: %v", channel, err)
		time.Sleep(500 * time.Millisecond)
	}
}

type Balances struct{ pool *pgxpool.Pool }

func (b *Balances) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var amount string
	row := b.pool.QueryRow(r.Context(), "select balance from wallets where player = $1", r.PathValue("player"))
	if err := row.Scan(&amount); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, amount)
}

// pgStub answers the simple protocol; a connection that listens gets a
// notification twice a second.
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
		if channel, ok := strings.CutPrefix(q.String, "listen "); ok {
			be.Send(&pgproto3.CommandComplete{CommandTag: []byte("LISTEN")})
			be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			for be.Flush() == nil {
				time.Sleep(500 * time.Millisecond)
				be.Send(&pgproto3.NotificationResponse{PID: 1, Channel: channel, Payload: "42"})
			}
			return
		}
		be.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("balance"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1}}})
		be.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("1250")}})
		be.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}

func listen() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return ln
}

func database() string {
	ln := listen()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go pgStub(c)
		}
	}()
	return ln.Addr().String()
}

func main() {
	ctx := context.Background()
	cfg, err := pgxpool.ParseConfig("postgres://svc@" + database() + "/ledger?sslmode=disable")
	if err != nil {
		log.Fatal(err)
	}
	currencies := []string{"twd", "usd", "php", "vnd", "thb", "inr"}
	cfg.MaxConns = int32(len(currencies)) + 3 // one each and three for requests
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	feed := &Feed{pool: pool}
	for _, cur := range currencies {
		go feed.supervise(ctx, "ledger_"+cur)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /balance/{player}", &Balances{pool})
	ln := listen()
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	go func() {
		for range time.Tick(9 * time.Millisecond) {
			resp, err := http.Get("http://" + ln.Addr().String() + "/balance/p7")
			if err != nil {
				continue
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
