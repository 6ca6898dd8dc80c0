// Transport-per-call asks for the weather.
package main

import (
	"io"
	"net/http"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type weather struct{ base string }

func (w *weather) now() ([]byte, error) {
	c := &http.Client{Transport: &http.Transport{MaxIdleConns: 10}} // want: goroutine-leak
	resp, err := c.Get(w.base + "/now")                             // want: goroutine-leak
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func main() {
	stage.Child("station", standin.Web(standin.Always(0)))
	s := stage.Start()
	wt := &weather{"http://" + s.Spawn("station")}
	mux := http.NewServeMux()
	mux.HandleFunc("/weather", func(w http.ResponseWriter, _ *http.Request) {
		b, err := wt.now()
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = w.Write(b)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/weather", PerSecond: 40})
	s.Wait()
}
