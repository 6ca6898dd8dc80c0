// Ok-group-batches refreshes prices.
package main

import (
	"context"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type prices struct {
	http *http.Client
	base string
}

func (p *prices) one(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/price", nil)
	if err != nil {
		return err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (p *prices) refresh(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(6)
	for range 20 {
		g.Go(func() error { return p.one(ctx) })
	}
	return g.Wait()
}

func main() {
	stage.Child("exchange", standin.Web(standin.Always(4*time.Millisecond)))
	s := stage.Start()
	p := &prices{&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 6}}, "http://" + s.Spawn("exchange")}
	go func() {
		for range time.Tick(300 * time.Millisecond) {
			_ = p.refresh(s.Context())
		}
	}()
	s.Wait()
}
