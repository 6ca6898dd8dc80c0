// Ok-logging logs every request to a file.
package main

import (
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

func main() {
	s := stage.Start()
	f, err := os.CreateTemp("", "requests-*.log")
	if err != nil {
		panic(err)
	}
	defer os.Remove(f.Name())
	log := slog.New(slog.NewJSONHandler(f, nil))
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		_, _ = w.Write([]byte("hello"))
		log.InfoContext(r.Context(), "served", "path", r.URL.Path, "took", time.Since(began), "peer", r.RemoteAddr)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(h) + "/", Users: 20, Pause: 20 * time.Millisecond})
	s.Wait()
}
