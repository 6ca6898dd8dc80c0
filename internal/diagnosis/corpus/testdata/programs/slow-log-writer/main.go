// Slow-log-writer logs every request to a collector.
package main

import (
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type access struct{ log *log.Logger }

func (a access) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		next.ServeHTTP(w, r)
		a.log.Printf("%s %s %v %s", r.Method, r.URL, time.Since(began), strings.Repeat("-", 900)) // want: log-contention
	})
}

func main() {
	stage.Child("collector", standin.Sink(60<<10))
	s := stage.Start()
	conn, err := net.Dial("tcp", s.Spawn("collector"))
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetWriteBuffer(8 << 10)
	a := access{log.New(conn, "access ", log.LstdFlags|log.Lmicroseconds)}
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	s.Crowd(stage.Traffic{URL: s.Serve(a.wrap(hello)) + "/", Users: 50, Pause: 10 * time.Millisecond})
	s.Wait()
}
