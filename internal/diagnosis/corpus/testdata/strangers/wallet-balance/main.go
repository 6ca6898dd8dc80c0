package main

import (
	"bufio"
	"context"
	"database/sql"
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
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	_ "github.com/jackc/pgx/v5/stdlib"
)

type Balance struct {
	PlayerID int64  `json:"player_id"`
	Currency string `json:"currency"`
}

type BalanceRepository struct{ db *sql.DB }

func (r *BalanceRepository) Load(ctx context.Context, player int64) (Balance, error) {
	var b Balance
	row := r.db.QueryRowContext(ctx, "select player_id, currency from balances where player_id = $1", player)
	if err := row.Scan(&b.PlayerID, &b.Currency); err != nil {
		return Balance{}, fmt.Errorf("load balance %d: %w", player, err)
	}
	return b, nil
}

type WalletService struct{ repo *BalanceRepository }

func (s *WalletService) Balance(ctx context.Context, player int64) (Balance, error) {
	if player <= 0 {
		return Balance{}, errors.New("unknown player")
	}
	return s.repo.Load(ctx, player)
}

func respond[T any](w http.ResponseWriter, v T, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

type walletAPI struct{ svc *WalletService }

func (a *walletAPI) getBalance(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.ParseInt(r.PathValue("player"), 10, 64)
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	b, err := a.svc.Balance(ctx, id)
	respond(w, b, err)
}

func openStore(addr string) (*sql.DB, error) {
	db, err := sql.Open("pgx", "postgres://wallet:wallet@"+addr+"/wallet?sslmode=disable&default_query_exec_mode=simple_protocol")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	db.SetConnMaxLifetime(30 * time.Minute)
	return db, nil
}

func main() {
	// agent-hook
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "downstream":
			runStore(18 * time.Millisecond)
		case "traffic":
			runTraffic(os.Args[2])
		}
		return
	}
	startDiagnostics()

	addr, err := launch("downstream")
	if err != nil {
		log.Fatal(err)
	}
	db, err := openStore(addr)
	if err != nil {
		log.Fatal(err)
	}
	api := &walletAPI{svc: &WalletService{repo: &BalanceRepository{db: db}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /wallet/{player}/balance", api.getBalance)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, mux)
	if _, err := launch("traffic", "http://"+ln.Addr().String()); err != nil {
		log.Fatal(err)
	}
	awaitShutdown()
}

func runTraffic(base string) {
	announce("ready")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
	for range 90 {
		go func() {
			for {
				resp, err := client.Get(fmt.Sprintf("%s/wallet/%d/balance", base, 1+rand.IntN(50000)))
				if err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(20+rand.IntN(40)) * time.Millisecond)
			}
		}()
	}
	select {}
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
