// Ok-fanout-quick puts a lobby together.
package main

import (
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type lobby struct {
	http *http.Client
	base string
}

func (l *lobby) part(name string) error {
	resp, err := l.http.Get(l.base + name)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func main() {
	stage.Child("parts", standin.Web(standin.Always(3*time.Millisecond)))
	s := stage.Start()
	l := &lobby{&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 40}}, "http://" + s.Spawn("parts")}
	mux := http.NewServeMux()
	mux.HandleFunc("/lobby", func(http.ResponseWriter, *http.Request) {
		var all sync.WaitGroup
		for _, name := range []string{"/rooms", "/friends", "/news", "/shop"} {
			all.Go(func() { _ = l.part(name) })
		}
		all.Wait()
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/lobby", PerSecond: 150})
	s.Wait()
}
