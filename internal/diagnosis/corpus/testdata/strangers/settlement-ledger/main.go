package main

import (
	"bufio"
	"context"
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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
)

type Bet struct {
	ID       int64
	PlayerID int64
	Colour   string
	Stake    int64
	Payout   int64
}

type Round struct {
	ID     int64
	Result string
	Bets   []Bet
}

// Partition hands out finished rounds in order, like one partition of the
// game-round topic.
type Partition struct {
	id   int
	next int64
}

var colours = []string{"red", "green", "blue", "yellow"}

func (p *Partition) Poll() Round {
	p.next++
	r := Round{ID: int64(p.id)<<40 | p.next, Result: colours[rand.IntN(len(colours))]}
	for i := range 10 + rand.IntN(6) {
		r.Bets = append(r.Bets, Bet{
			ID:       r.ID*100 + int64(i),
			PlayerID: rand.Int64N(1 << 20),
			Colour:   colours[rand.IntN(len(colours))],
			Stake:    10 * (1 + rand.Int64N(50)),
		})
	}
	return r
}

type LedgerRepository struct{ pool *pgxpool.Pool }

const insertBet = `insert into bet_ledger(bet_id, round_id, player_id, stake, payout) values ($1,$2,$3,$4,$5)`

func (l *LedgerRepository) Append(ctx context.Context, round int64, b Bet) error {
	_, err := l.pool.Exec(ctx, insertBet, b.ID, round, b.PlayerID, b.Stake, b.Payout)
	return err
}

type SettlementService struct {
	ledger  *LedgerRepository
	settled atomic.Int64
}

func (s *SettlementService) Settle(ctx context.Context, r Round) error {
	for i := range r.Bets {
		b := &r.Bets[i]
		if b.Colour == r.Result {
			b.Payout = b.Stake * 4
		}
		if err := s.ledger.Append(ctx, r.ID, *b); err != nil {
			return fmt.Errorf("round %d: %w", r.ID, err)
		}
	}
	s.settled.Add(1)
	return nil
}

type Consumer struct {
	part *Partition
	svc  *SettlementService
}

func (c *Consumer) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := c.svc.Settle(ctx, c.part.Poll()); err != nil {
			log.Printf("partition %d: %v", c.part.id, err)
			time.Sleep(time.Second)
		}
	}
}

func main() {
	// agent-hook
	if len(os.Args) > 1 && os.Args[1] == "downstream" {
		runStore(140 * time.Millisecond)
		return
	}
	startDiagnostics()

	addr, err := launch("downstream")
	if err != nil {
		log.Fatal(err)
	}
	cfg, err := pgxpool.ParseConfig("postgres://ledger:ledger@" + addr + "/game?sslmode=disable")
	if err != nil {
		log.Fatal(err)
	}
	cfg.MaxConns = 64
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	ctx := context.Background()
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	svc := &SettlementService{ledger: &LedgerRepository{pool: pool}}
	for i := range 48 {
		go (&Consumer{part: &Partition{id: i}, svc: svc}).Run(ctx)
	}
	go func() {
		for range time.Tick(15 * time.Second) {
			log.Printf("rounds settled: %d", svc.settled.Load())
		}
	}()
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
