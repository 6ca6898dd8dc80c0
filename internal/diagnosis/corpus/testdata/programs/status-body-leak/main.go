// Status-body-leak asks a partner for odds.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

func get[T any](c *http.Client, url string) (v T, err error) {
	resp, err := c.Get(url) // want: response-body-leak
	if err != nil {
		return v, err
	}
	if resp.StatusCode != http.StatusOK {
		return v, fmt.Errorf("the partner answers %s", resp.Status)
	}
	defer resp.Body.Close()
	return v, json.NewDecoder(resp.Body).Decode(&v)
}

type odds struct{ Rate float64 }

type partner struct {
	http *http.Client
	base string
}

func (p *partner) odds() (odds, error) { return get[odds](p.http, p.base+"/odds") } // want: response-body-leak

func serve(ctx context.Context, l net.Listener) error {
	var n atomic.Int64
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%3 == 0 {
			w.WriteHeader(http.StatusTooManyRequests)
			for range 3000 {
				fmt.Fprintln(w, "slow down, please")
			}
			return
		}
		fmt.Fprint(w, `{"Rate":1.5}`)
	}))
}

func main() {
	stage.Child("partner", serve)
	s := stage.Start()
	p := &partner{&http.Client{}, "http://" + s.Spawn("partner")}
	mux := http.NewServeMux()
	mux.HandleFunc("/odds", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := p.odds(); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/odds", PerSecond: 60})
	s.Wait()
}
