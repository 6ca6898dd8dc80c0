// Ok-bounded-fanout asks eight shards for each request, sixteen calls at a time.
package main

import (
	"context"
	"io"
	"net/http"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type fanout struct {
	base string
	slot chan struct{}
	http *http.Client
}

func (f *fanout) shard(ctx context.Context, n int) error {
	f.slot <- struct{}{}
	defer func() { <-f.slot }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base+"/"+strconv.Itoa(n), nil)
	if err != nil {
		return err
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (f *fanout) all(w http.ResponseWriter, r *http.Request) {
	g, ctx := errgroup.WithContext(r.Context())
	for n := range 8 {
		g.Go(func() error { return f.shard(ctx, n) })
	}
	if err := g.Wait(); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

func main() {
	stage.Child("shards", standin.Web(standin.Always(0)))
	s := stage.Start()
	f := &fanout{"http://" + s.Spawn("shards"), make(chan struct{}, 16), &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	mux := http.NewServeMux()
	mux.HandleFunc("/all", f.all)
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/all", PerSecond: 60})
	s.Wait()
}
