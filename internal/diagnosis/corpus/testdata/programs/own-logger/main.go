// Own-logger writes an audit trail with a logger of its own.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type logger struct {
	mu  sync.Mutex
	out *bufio.Writer
}

func newLogger(w io.Writer) *logger { return &logger{out: bufio.NewWriter(w)} }

func (l *logger) logf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, time.Now().Format(time.RFC3339Nano)+" "+format+"\n", args...) // want: log-contention
	_ = l.out.Flush()                                                                // want: log-contention
}

func main() {
	stage.Child("collector", standin.Sink(60<<10))
	s := stage.Start()
	conn, err := net.Dial("tcp", s.Spawn("collector"))
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetWriteBuffer(8 << 10)
	log := newLogger(conn)
	mux := http.NewServeMux()
	mux.HandleFunc("/bet", func(w http.ResponseWriter, r *http.Request) {
		log.logf("bet by %s: %s", r.FormValue("player"), strings.Repeat("chip ", 150)) // want: log-contention
		w.WriteHeader(http.StatusNoContent)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/bet?player=ada", Users: 40, Pause: 10 * time.Millisecond})
	s.Wait()
}
