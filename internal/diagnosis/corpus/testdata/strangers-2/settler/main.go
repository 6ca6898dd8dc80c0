package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	_ "github.com/jackc/pgx/v5/stdlib"
)

type slip struct {
	Player int64 `json:"player"`
	Table  int64 `json:"table"`
	Stake  int64 `json:"stake"`
	Payout int64 `json:"payout"`
}

var errOverLimit = errors.New("stake over table limit")

type settler struct {
	db       *sql.DB
	rejected atomic.Int64
	settled  atomic.Int64
}

// settle books one slip. A player who closes the app must still be paid, so the
// booking does not follow the request's cancellation.
func (s *settler) settle(ctx context.Context, sl slip) error {
	ctx = context.WithoutCancel(ctx)
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	var ceiling int64
	row := tx.QueryRowContext(ctx, "select stake_ceiling from tables where id = $1", sl.Table)
	if err := row.Scan(&ceiling); err != nil {
		tx.Rollback()
		return fmt.Errorf("ceiling: %w", err)
	}
	if sl.Stake > ceiling {
		s.rejected.Add(1)
		return errOverLimit
	}
	if _, err := tx.ExecContext(ctx, "insert into slips(player, stake, payout) values($1,$2,$3)", sl.Player, sl.Stake, sl.Payout); err != nil {
		tx.Rollback()
		return fmt.Errorf("slip: %w", err)
	}
	if _, err := tx.ExecContext(ctx, "update wallets set balance = balance + $1 where player = $2", sl.Payout, sl.Player); err != nil {
		tx.Rollback()
		return fmt.Errorf("wallet: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	s.settled.Add(1)
	return nil
}

func (s *settler) handleSettle(w http.ResponseWriter, r *http.Request) {
	var sl slip
	if err := json.NewDecoder(r.Body).Decode(&sl); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch err := s.settle(r.Context(), sl); {
	case errors.Is(err, errOverLimit):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *settler) handleStatus(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "settled %d rejected %d\n", s.settled.Load(), s.rejected.Load())
}

func main() {
	// agent-hook
	if len(os.Args) > 1 {
		surroundings()
		return
	}
	runtime.GOMAXPROCS(2)
	serveDebug()
	in, addr := spawn("surroundings")
	db, err := sql.Open("pgx", "postgres://game@"+addr+"/game?sslmode=disable&default_query_exec_mode=simple_protocol")
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12)
	s := &settler{db: db}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /settle", s.handleSettle)
	mux.HandleFunc("GET /status", s.handleStatus)
	fmt.Fprintln(in, serve(mux))
	untilTerminated(in)
}

// surroundings plays the database and the game servers that send slips.
func surroundings() {
	runtime.GOMAXPROCS(1)
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
			go database(c)
		}
	}()
	fmt.Println(ln.Addr())
	base := attach()
	hc := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	var n atomic.Int64
	for range 40 {
		go func() {
			for {
				k := n.Add(1)
				sl := slip{Player: k % 5000, Table: k % 40, Stake: 50 + k%100, Payout: k % 300}
				if k%61 == 0 {
					sl.Stake = 5000
				}
				b, _ := json.Marshal(sl)
				if res, err := hc.Post(base+"/settle", "application/json", bytes.NewReader(b)); err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(100 * time.Millisecond)
			}
		}()
	}
	select {}
}

func database(c net.Conn) {
	defer c.Close()
	be := pgproto3.NewBackend(c, c)
	if _, err := be.ReceiveStartupMessage(); err != nil {
		return
	}
	be.Send(&pgproto3.AuthenticationOk{})
	be.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	be.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	status := byte('I')
	be.Send(&pgproto3.ReadyForQuery{TxStatus: status})
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
			if _, bye := msg.(*pgproto3.Terminate); bye {
				return
			}
			continue
		}
		text := strings.ToLower(strings.TrimSpace(q.String))
		time.Sleep(2 * time.Millisecond)
		switch {
		case strings.HasPrefix(text, "begin"):
			status = 'T'
			be.Send(&pgproto3.CommandComplete{CommandTag: []byte("BEGIN")})
		case strings.HasPrefix(text, "commit"):
			status = 'I'
			be.Send(&pgproto3.CommandComplete{CommandTag: []byte("COMMIT")})
		case strings.HasPrefix(text, "rollback"):
			status = 'I'
			be.Send(&pgproto3.CommandComplete{CommandTag: []byte("ROLLBACK")})
		case strings.HasPrefix(text, "select"):
			be.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("stake_ceiling"), DataTypeOID: 20, DataTypeSize: 8, TypeModifier: -1}}})
			be.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("1000")}})
			be.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		case strings.HasPrefix(text, "insert"):
			be.Send(&pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")})
		case strings.HasPrefix(text, "update"):
			be.Send(&pgproto3.CommandComplete{CommandTag: []byte("UPDATE 1")})
		default:
			be.Send(&pgproto3.EmptyQueryResponse{})
		}
		be.Send(&pgproto3.ReadyForQuery{TxStatus: status})
		if be.Flush() != nil {
			return
		}
	}
}

// spawn starts this binary again in another role and returns its stdin and the
// first line it prints. Closing stdin ends it.
func spawn(role string) (io.WriteCloser, string) {
	exe, err := os.Executable()
	if err != nil {
		log.Fatal(err)
	}
	cmd := exec.Command(exe, role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		log.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		log.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		log.Fatal(err)
	}
	return in, strings.TrimSpace(line)
}

// serve runs the public API on a free port and returns its base URL.
func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, h)
	return "http://" + ln.Addr().String()
}

func serveDebug() {
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
}

func untilTerminated(keep ...io.Closer) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
	for _, c := range keep {
		c.Close()
	}
}

// attach reads the base URL of the service from the parent, and ends this
// process when the parent goes away.
func attach() string {
	sc := bufio.NewScanner(os.Stdin)
	sc.Scan()
	base := sc.Text()
	go func() {
		for sc.Scan() {
		}
		os.Exit(0)
	}()
	return base
}
