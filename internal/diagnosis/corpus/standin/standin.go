// Package standin plays the downstreams of the corpus's programs: just enough of
// a Postgres, of a Redis and of a web service for a client to be content, each
// as slow as it is told to be. They run in child processes, where no profile
// sees them.
package standin

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Never is a latency that outlasts every test.
const Never = 24 * time.Hour

// Latency says how long an answer to the request takes: an SQL statement, a
// Redis command, a path.
type Latency func(request string) time.Duration

// Always is the same latency for all.
func Always(d time.Duration) Latency { return func(string) time.Duration { return d } }

// Web is a web service.
func Web(latency Latency) func(context.Context, net.Listener) error {
	return func(ctx context.Context, l net.Listener) error {
		server := &http.Server{
			ReadHeaderTimeout: time.Minute,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if sleep(r.Context(), latency(r.URL.Path)) {
					fmt.Fprintf(w, `{"path":%q,"rate":1.25,"items":[1,2,3,4,5,6,7,8]}`, r.URL.Path)
				}
			}),
		}
		go func() {
			<-ctx.Done()
			_ = server.Close()
		}()
		return server.Serve(l)
	}
}

// Postgres answers every statement with one row that has one column, the text "1".
// BEGIN, COMMIT, ROLLBACK and empty statements are answered at once.
func Postgres(latency Latency) func(context.Context, net.Listener) error {
	return connections(func(ctx context.Context, conn net.Conn) error {
		b := pgproto3.NewBackend(conn, conn)
		if _, err := b.ReceiveStartupMessage(); err != nil {
			return err
		}
		b.Send(&pgproto3.AuthenticationOk{})
		b.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
		b.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
		b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if err := b.Flush(); err != nil {
			return err
		}
		s := &session{b: b, latency: latency, status: 'I'}
		for {
			msg, err := b.Receive()
			if err != nil {
				return err
			}
			if err := s.answer(ctx, msg); err != nil {
				return err
			}
		}
	})
}

// session is a connection to the Postgres.
type session struct {
	b       *pgproto3.Backend
	latency Latency
	parsed  string
	status  byte // of the transaction
}

var oneColumn = []pgproto3.FieldDescription{{Name: []byte("value"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1}}

const textOID = 25

func (s *session) answer(ctx context.Context, msg pgproto3.FrontendMessage) error {
	switch m := msg.(type) {
	case *pgproto3.Query:
		s.b.Send(&pgproto3.RowDescription{Fields: oneColumn})
		s.execute(ctx, m.String)
		s.b.Send(&pgproto3.ReadyForQuery{TxStatus: s.status})
		return s.b.Flush()
	case *pgproto3.Parse:
		s.parsed = m.Query
		s.b.Send(&pgproto3.ParseComplete{})
	case *pgproto3.Describe:
		if m.ObjectType == 'S' {
			params := make([]uint32, strings.Count(s.parsed, "$"))
			for i := range params {
				params[i] = textOID
			}
			s.b.Send(&pgproto3.ParameterDescription{ParameterOIDs: params})
		}
		s.b.Send(&pgproto3.RowDescription{Fields: oneColumn})
	case *pgproto3.Bind:
		s.b.Send(&pgproto3.BindComplete{})
	case *pgproto3.Execute:
		s.execute(ctx, s.parsed)
	case *pgproto3.Close:
		s.b.Send(&pgproto3.CloseComplete{})
	case *pgproto3.Sync:
		s.b.Send(&pgproto3.ReadyForQuery{TxStatus: s.status})
		return s.b.Flush()
	case *pgproto3.Terminate:
		return fmt.Errorf("the client is gone")
	}
	return nil
}

// execute runs a statement.
func (s *session) execute(ctx context.Context, sql string) {
	verb := strings.ToLower(strings.TrimRight(strings.TrimSpace(sql), ";"))
	switch {
	case strings.HasPrefix(verb, "begin"):
		s.status = 'T'
	case verb == "commit", verb == "rollback":
		s.status = 'I'
	case verb == "" || strings.HasPrefix(verb, "-- ping"):
	default:
		sleep(ctx, s.latency(sql))
		s.b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("1")}})
	}
	s.b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
}

// Redis answers every command with +OK.
func Redis(latency Latency) func(context.Context, net.Listener) error {
	return connections(func(ctx context.Context, conn net.Conn) error {
		r := bufio.NewReader(conn)
		for {
			command, err := readCommand(r)
			if err != nil {
				return err
			}
			if !sleep(ctx, latency(command)) {
				return ctx.Err()
			}
			if _, err := conn.Write([]byte("+OK\r\n")); err != nil {
				return err
			}
		}
	})
}

// readCommand reads an array of bulk strings, and returns them with spaces between.
func readCommand(r *bufio.Reader) (string, error) {
	count := func(kind byte) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		line = strings.TrimSpace(line)
		if line == "" || line[0] != kind {
			return 0, fmt.Errorf("%q where a %q was expected", line, kind)
		}
		return strconv.Atoi(line[1:])
	}
	n, err := count('*')
	if err != nil {
		return "", err
	}
	var words []string
	for range n {
		size, err := count('$')
		if err != nil {
			return "", err
		}
		word := make([]byte, size)
		for read := 0; read < size; {
			n, err := r.Read(word[read:])
			if err != nil {
				return "", err
			}
			read += n
		}
		if _, err := r.ReadString('\n'); err != nil {
			return "", err
		}
		words = append(words, string(word))
	}
	return strings.Join(words, " "), nil
}

// Sink accepts connections and reads from each at most bytesPerSecond.
func Sink(bytesPerSecond int) func(context.Context, net.Listener) error {
	return connections(func(ctx context.Context, conn net.Conn) error {
		if t, ok := conn.(*net.TCPConn); ok {
			_ = t.SetReadBuffer(4 << 10) // a slow reader must be felt
		}
		buf := make([]byte, max(1, bytesPerSecond/20))
		for sleep(ctx, 50*time.Millisecond) {
			if _, err := conn.Read(buf); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}

// connections serves each connection in a goroutine of its own.
func connections(serve func(context.Context, net.Conn) error) func(context.Context, net.Listener) error {
	return func(ctx context.Context, l net.Listener) error {
		go func() {
			<-ctx.Done()
			_ = l.Close()
		}()
		for {
			conn, err := l.Accept()
			if err != nil {
				return ctx.Err()
			}
			go func() {
				defer conn.Close()
				_ = serve(ctx, conn) // a client that leaves is none of our concern
			}()
		}
	}
}

// sleep is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
