// Fanout-no-limit shows who is online.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type presence struct {
	http *http.Client
	base string
}

func (p *presence) online(ctx context.Context, id int) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprint(p.base, "/p/", id), nil)
	if err != nil {
		return false, err
	}
	resp, err := p.http.Do(req) // want: unbounded-concurrency
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return true, err
}

func (p *presence) friends(ctx context.Context, ids []int) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, id := range ids {
		g.Go(func() error { // want: unbounded-concurrency
			_, err := p.online(ctx, id) // want: unbounded-concurrency
			return err
		})
	}
	return g.Wait()
}

func main() {
	stage.Child("presence", standin.Web(standin.Always(900*time.Millisecond)))
	s := stage.Start()
	p := &presence{&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 3000}}, "http://" + s.Spawn("presence")}
	ids := make([]int, 400)
	mux := http.NewServeMux()
	mux.HandleFunc("/friends", func(w http.ResponseWriter, r *http.Request) {
		if err := p.friends(r.Context(), ids); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/friends", PerSecond: 6})
	s.Wait()
}
