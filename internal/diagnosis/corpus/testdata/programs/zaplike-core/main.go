// Zaplike-core logs bets as JSON.
package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type field struct {
	key   string
	value any
}

type lockedWriter struct {
	sync.Mutex
	w io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.w.Write(b) // want: log-contention
}

type core struct{ out io.Writer }

func (c *core) write(entry map[string]any) error {
	b, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	_, err = c.out.Write(append(b, '\n')) // want: log-contention
	return err
}

type logger struct {
	core *core
	with []field
}

func (l *logger) Info(msg string, fields ...field) {
	entry := map[string]any{"msg": msg, "ts": time.Now().UnixNano()}
	for _, f := range append(l.with, fields...) {
		entry[f.key] = f.value
	}
	_ = l.core.write(entry) // want: log-contention
}

func main() {
	stage.Child("shipper", standin.Sink(50<<10))
	s := stage.Start()
	conn, err := net.Dial("tcp", s.Spawn("shipper"))
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetWriteBuffer(8 << 10)
	log := &logger{core: &core{&lockedWriter{w: conn}}, with: []field{{"service", "bets"}}}
	mux := http.NewServeMux()
	mux.HandleFunc("/bet", func(w http.ResponseWriter, r *http.Request) {
		log.Info("bet", field{"player", r.FormValue("player")}, field{"chips", strings.Repeat("10,", 250)}) // want: log-contention
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/bet?player=ada", Users: 40, Pause: 10 * time.Millisecond})
	s.Wait()
}
