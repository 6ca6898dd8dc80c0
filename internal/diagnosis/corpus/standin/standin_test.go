package standin

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
)

// serve runs a stand-in until the test ends, and returns its address.
func serve(t *testing.T, run func(context.Context, net.Listener) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = run(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return l.Addr().String()
}

func TestPostgresAnswersItsClients(t *testing.T) {
	var asked []string
	addr := serve(t, Postgres(func(sql string) time.Duration {
		asked = append(asked, sql)
		return 0
	}))
	for _, mode := range []string{"exec", "simple_protocol", "cache_statement", "describe_exec"} {
		url := "postgres://game@" + addr + "/game?sslmode=disable&default_query_exec_mode=" + mode
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(mode, err)
		}
		var value string
		if err := conn.QueryRow(t.Context(), "select balance where id = $1", "7").Scan(&value); err != nil || value != "1" {
			t.Errorf("%s: %q, %v", mode, value, err)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(mode, err)
		}
	}
	db, err := sql.Open("pgx", "postgres://game@"+addr+"/game?sslmode=disable&default_query_exec_mode=exec")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("insert into bets values ($1)", 7); err != nil {
		t.Error(err)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
	if got := asked[len(asked)-1]; got != "insert into bets values ($1)" {
		t.Errorf("the last statement with a latency is %q", got)
	}
}

func TestPostgresIsSlow(t *testing.T) {
	addr := serve(t, Postgres(Always(Never)))
	conn, err := pgx.Connect(t.Context(), "postgres://game@"+addr+"/game?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := conn.Exec(ctx, "select 1"); err == nil {
		t.Error("it answered")
	}
	_ = conn.Close(t.Context())
}

func TestRedis(t *testing.T) {
	conn, err := net.Dial("tcp", serve(t, Redis(func(command string) time.Duration {
		if command != "GET profile 7" {
			return Never
		}
		return 0
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "*3\r\n$3\r\nGET\r\n$7\r\nprofile\r\n$1\r\n7\r\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "+OK\r\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestWeb(t *testing.T) {
	resp, err := http.Get("http://" + serve(t, Web(Always(0))) + "/rate/7")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(b), `"path":"/rate/7"`) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestSinkIsSlow(t *testing.T) {
	conn, err := net.Dial("tcp", serve(t, Sink(1000)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(make([]byte, 64<<20)); err == nil {
		t.Error("it took 64 MB at once")
	}
}
