// Profile-fanout puts a profile together.
package main

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type source struct {
	http *http.Client
	url  string
}

func (s source) load() error {
	resp, err := s.http.Get(s.url) // want: downstream-wait
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

type page struct{ parts []source }

func (p *page) render() {
	var all sync.WaitGroup
	for _, part := range p.parts {
		all.Go(func() { _ = part.load() }) // want: downstream-wait
	}
	all.Wait() // want: downstream-wait
}

func main() {
	stage.Child("parts", standin.Web(func(path string) time.Duration {
		if strings.HasSuffix(path, "3") {
			return 700 * time.Millisecond
		}
		return 3 * time.Millisecond
	}))
	s := stage.Start()
	base := "http://" + s.Spawn("parts")
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
	p := &page{}
	for _, n := range []string{"/1", "/2", "/3", "/4", "/5", "/6"} {
		p.parts = append(p.parts, source{c, base + n})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/profile", func(http.ResponseWriter, *http.Request) { p.render() })
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/profile", Users: 30, Pause: 10 * time.Millisecond})
	s.Wait()
}
