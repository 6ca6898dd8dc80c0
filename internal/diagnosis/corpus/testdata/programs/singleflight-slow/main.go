// Singleflight-slow shows the event that is on.
package main

import (
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type events struct {
	flight singleflight.Group
	base   string
}

func (e *events) fetch() (any, error) {
	resp, err := http.Get(e.base + "/event") // want: downstream-wait
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func (e *events) current() ([]byte, error) {
	v, err, _ := e.flight.Do("event", e.fetch) // want: downstream-wait
	if err != nil {
		return nil, err
	}
	return v.([]byte), nil
}

func main() {
	stage.Child("events", standin.Web(standin.Always(900*time.Millisecond)))
	s := stage.Start()
	e := &events{base: "http://" + s.Spawn("events")}
	mux := http.NewServeMux()
	mux.HandleFunc("/event", func(w http.ResponseWriter, _ *http.Request) {
		b, err := e.current() // want: downstream-wait
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = w.Write(b)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/event", Users: 50, Pause: 10 * time.Millisecond})
	s.Wait()
}
