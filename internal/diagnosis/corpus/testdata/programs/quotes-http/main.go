// Quotes-http asks another service for prices.
package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type quote struct{ Rate float64 }

// client calls JSON services.
type client[T any] struct {
	http *http.Client
	base string
}

func (c client[T]) get(ctx context.Context, path string) (out T, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return out, err
	}
	resp, err := c.http.Do(req) // want: downstream-wait
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	return out, json.NewDecoder(resp.Body).Decode(&out)
}

func main() {
	stage.Child("market", standin.Web(standin.Always(600*time.Millisecond)))
	s := stage.Start()
	quotes := client[quote]{&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}, Timeout: 30 * time.Second}, "http://" + s.Spawn("market")}
	mux := http.NewServeMux()
	mux.HandleFunc("/price", func(w http.ResponseWriter, r *http.Request) {
		q, err := quotes.get(r.Context(), "/rate/"+r.FormValue("item"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(q)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/price?item=7", Users: 80, Pause: 20 * time.Millisecond})
	s.Wait()
}
