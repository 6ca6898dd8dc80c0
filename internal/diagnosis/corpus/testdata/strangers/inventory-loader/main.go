package main

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	_ "github.com/jackc/pgx/v5/stdlib"
)

type Item struct {
	ID   int64
	Name string
}

type ItemRepository struct{ db *sql.DB }

func (r *ItemRepository) Bag(ctx context.Context, player int64) ([]Item, error) {
	rows, err := r.db.QueryContext(ctx, "select item_id, name from bag_items where player_id = $1", player)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var items []Item
	for rows.Next() {
		var it Item
		if err := rows.Scan(&it.ID, &it.Name); err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return items, rows.Err()
}

// NextExpiring returns the item that runs out first.
func (r *ItemRepository) NextExpiring(ctx context.Context, player int64) (*Item, error) {
	rows, err := r.db.QueryContext(ctx, "select item_id, name from bag_items where player_id = $1 order by expires_at", player)
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		it := new(Item)
		if err := rows.Scan(&it.ID, &it.Name); err != nil {
			return nil, err
		}
		return it, nil
	}
	return nil, rows.Err()
}

type InventoryService struct {
	repo    *ItemRepository
	notices atomic.Int64
}

func (s *InventoryService) OpenBag(ctx context.Context, player int64) (int, error) {
	items, err := s.repo.Bag(ctx, player)
	return len(items), err
}

func (s *InventoryService) Remind(ctx context.Context, player int64) error {
	it, err := s.repo.NextExpiring(ctx, player)
	if err != nil {
		return err
	}
	if it != nil {
		s.notices.Add(1)
	}
	return nil
}

// PlaySession is one connected player; ctx ends when the player disconnects.
type PlaySession struct {
	player int64
	svc    *InventoryService
}

func (p *PlaySession) Serve(ctx context.Context) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		if _, err := p.svc.OpenBag(ctx, p.player); err != nil {
			return err
		}
		if n%4 == 0 {
			if err := p.svc.Remind(ctx, p.player); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func seat(svc *InventoryService) {
	for {
		length := 12*time.Second + time.Duration(rand.IntN(8000))*time.Millisecond
		ctx, cancel := context.WithTimeout(context.Background(), length)
		_ = (&PlaySession{player: rand.Int64N(1 << 30), svc: svc}).Serve(ctx)
		cancel()
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
	}
}

func main() {
	// agent-hook
	if len(os.Args) > 1 && os.Args[1] == "downstream" {
		runStore(3 * time.Millisecond)
		return
	}
	startDiagnostics()

	addr, err := launch("downstream")
	if err != nil {
		log.Fatal(err)
	}
	db, err := sql.Open("pgx", "postgres://bag:bag@"+addr+"/inventory?sslmode=disable&default_query_exec_mode=simple_protocol")
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(24)
	db.SetMaxIdleConns(24)
	svc := &InventoryService{repo: &ItemRepository{db: db}}
	for range 70 {
		go seat(svc)
	}
	awaitShutdown()
}

func startDiagnostics() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	go func() {
		if err := http.ListenAndServe(addr, nil); err != nil {
			log.Printf("diagnostics listener: %v", err)
		}
	}()
}

func awaitShutdown() {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, os.Interrupt)
	<-sig
	log.Print("shutting down")
}

var children []*exec.Cmd

// launch starts this binary in another role and returns the first line the
// child prints, normally the address it listens on.
func launch(args ...string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(exe, args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "OPS_CENTER") && !strings.HasPrefix(kv, "PPROF_ADDR=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Stderr = os.Stderr
	if _, err = cmd.StdinPipe(); err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	children = append(children, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(line), err
}

// announce tells the parent where we are and ties our lifetime to it.
func announce(line string) {
	fmt.Println(line)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
}

// runStore speaks enough of the Postgres protocol for local environments.
func runStore(latency time.Duration) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	announce(ln.Addr().String())
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go serveStoreConn(c, latency)
	}
}

func serveStoreConn(c net.Conn, latency time.Duration) {
	defer c.Close()
	be := pgproto3.NewBackend(c, c)
	for started := false; !started; {
		msg, err := be.ReceiveStartupMessage()
		if err != nil {
			return
		}
		switch msg.(type) {
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			c.Write([]byte("N"))
		case *pgproto3.StartupMessage:
			started = true
		default:
			return
		}
	}
	be.Send(&pgproto3.AuthenticationOk{})
	for k, v := range map[string]string{"server_version": "16.3", "client_encoding": "UTF8", "standard_conforming_strings": "on"} {
		be.Send(&pgproto3.ParameterStatus{Name: k, Value: v})
	}
	be.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	state := byte('I')
	be.Send(&pgproto3.ReadyForQuery{TxStatus: state})
	if be.Flush() != nil {
		return
	}
	for {
		msg, err := be.Receive()
		if err != nil {
			return
		}
		q, ok := msg.(*pgproto3.Query)
		if !ok {
			return
		}
		text := strings.ToLower(strings.TrimSpace(q.String))
		switch {
		case strings.HasPrefix(text, "--") || text == ";":
			be.Send(&pgproto3.EmptyQueryResponse{})
		case strings.HasPrefix(text, "begin"):
			state = 'T'
			be.Send(&pgproto3.CommandComplete{CommandTag: []byte("BEGIN")})
		case strings.HasPrefix(text, "commit"), strings.HasPrefix(text, "rollback"):
			state = 'I'
			be.Send(&pgproto3.CommandComplete{CommandTag: []byte("COMMIT")})
		case strings.HasPrefix(text, "select"):
			time.Sleep(latency)
			be.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{
				{Name: []byte("id"), DataTypeOID: 20, DataTypeSize: 8, TypeModifier: -1},
				{Name: []byte("label"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1},
			}})
			for i := 1; i <= 4; i++ {
				be.Send(&pgproto3.DataRow{Values: [][]byte{[]byte(strconv.Itoa(1000 + i)), []byte("entry-" + strconv.Itoa(i))}})
			}
			be.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 4")})
		default:
			time.Sleep(latency)
			be.Send(&pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")})
		}
		be.Send(&pgproto3.ReadyForQuery{TxStatus: state})
		if be.Flush() != nil {
			return
		}
	}
}
