// Slog-lock-io logs game events as JSON.
package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type events struct{ log *slog.Logger }

func (e *events) record(ctx context.Context, kind string, attrs ...slog.Attr) {
	e.log.LogAttrs(ctx, slog.LevelInfo, kind, attrs...) // want: log-contention
}

func (e *events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.record(r.Context(), "spin", slog.String("player", r.FormValue("player")), slog.String("reels", strings.Repeat("7", 700)))
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	stage.Child("collector", standin.Sink(80<<10))
	s := stage.Start()
	conn, err := net.Dial("tcp", s.Spawn("collector"))
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetWriteBuffer(8 << 10)
	e := &events{slog.New(slog.NewJSONHandler(conn, nil))}
	s.Crowd(stage.Traffic{URL: s.Serve(e) + "/?player=ada", Users: 60, Pause: 10 * time.Millisecond})
	s.Wait()
}
