// Decoder-body-leak reads the head of a feed.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type head struct{ Round int }

type feed struct {
	do  func(*http.Request) (*http.Response, error)
	url string
}

func (f *feed) open() (io.Reader, error) {
	req, err := http.NewRequest(http.MethodGet, f.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := f.do(req) // want: response-body-leak
	if err != nil {
		return nil, err
	}
	return io.LimitReader(resp.Body, 1<<16), nil
}

func (f *feed) head() (h head, err error) {
	r, err := f.open() // want: response-body-leak
	if err != nil {
		return h, err
	}
	return h, json.NewDecoder(r).Decode(&h)
}

func main() {
	stage.Child("feed", func(_ context.Context, l net.Listener) error {
		return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := range 20_000 {
				fmt.Fprintf(w, `{"Round":%d}`, i)
			}
		}))
	})
	s := stage.Start()
	f := &feed{http.DefaultClient.Do, "http://" + s.Spawn("feed")}
	mux := http.NewServeMux()
	mux.HandleFunc("/round", func(w http.ResponseWriter, _ *http.Request) {
		h, err := f.head() // want: response-body-leak
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, h.Round)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/round", PerSecond: 30})
	s.Wait()
}
