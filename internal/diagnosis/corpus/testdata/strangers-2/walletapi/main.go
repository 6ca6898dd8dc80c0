package main

import (
	"bufio"
	"context"
	"encoding/json"
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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
)

// wallets answers balances from the database.
type wallets struct{ db *pgxpool.Pool }

func (w *wallets) balance(ctx context.Context, player int64) (int64, error) {
	var bal int64
	err := w.db.QueryRow(ctx, "select balance from wallets where player = $1", player).Scan(&bal)
	return bal, err
}

func (w *wallets) add(ctx context.Context, player, amount int64) error {
	_, err := w.db.Exec(ctx, "update wallets set balance = balance + $1 where player = $2", amount, player)
	return err
}

func (w *wallets) handleBalance(rw http.ResponseWriter, r *http.Request) {
	player, _ := strconv.ParseInt(r.PathValue("player"), 10, 64)
	bal, err := w.balance(r.Context(), player)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	json.NewEncoder(rw).Encode(map[string]int64{"player": player, "balance": bal})
}

func (w *wallets) handleAdd(rw http.ResponseWriter, r *http.Request) {
	player, _ := strconv.ParseInt(r.PathValue("player"), 10, 64)
	if err := w.add(r.Context(), player, 10); err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
	}
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
	cfg, err := pgxpool.ParseConfig("postgres://game@" + addr + "/game?sslmode=disable")
	if err != nil {
		log.Fatal(err)
	}
	cfg.MaxConns, cfg.MinConns = 10, 10
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	db, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	w := &wallets{db: db}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /wallet/{player}", w.handleBalance)
	mux.HandleFunc("POST /wallet/{player}", w.handleAdd)
	mux.HandleFunc("GET /pool", func(rw http.ResponseWriter, r *http.Request) {
		st := db.Stat()
		fmt.Fprintln(rw, "in use", st.AcquiredConns(), "of", st.MaxConns(), "acquired", st.AcquireCount(), "waited", st.EmptyAcquireCount(), st.EmptyAcquireWaitTime())
	})
	fmt.Fprintln(in, serve(mux))
	untilTerminated(in)
}

// surroundings plays the database and the games, which ask at an even pace.
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
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	work := make(chan int, 64)
	for range 20 {
		go func() {
			for n := range work {
				var res *http.Response
				var err error
				if n%3 == 0 {
					res, err = hc.Post(fmt.Sprintf("%s/wallet/%d", base, n%4000), "", nil)
				} else {
					res, err = hc.Get(fmt.Sprintf("%s/wallet/%d", base, n%4000))
				}
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			}
		}()
	}
	n := 0
	for range time.Tick(2 * time.Millisecond) {
		n++
		work <- n
	}
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
		time.Sleep(16 * time.Millisecond)
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
			be.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("balance"), DataTypeOID: 20, DataTypeSize: 8, TypeModifier: -1}}})
			be.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("2500")}})
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
