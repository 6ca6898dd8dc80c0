// Semaphore-slow-downstream prices baskets, four at a time.
package main

import (
	"context"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type pricer struct {
	base  string
	slots *semaphore.Weighted
}

func (p *pricer) price(ctx context.Context) error {
	if err := p.slots.Acquire(ctx, 1); err != nil { // want: downstream-wait
		return err
	}
	defer p.slots.Release(1)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/price", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req) // want: downstream-wait
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func main() {
	stage.Child("prices", standin.Web(standin.Always(300*time.Millisecond)))
	s := stage.Start()
	p := &pricer{"http://" + s.Spawn("prices"), semaphore.NewWeighted(4)}
	mux := http.NewServeMux()
	mux.HandleFunc("/price", func(w http.ResponseWriter, r *http.Request) {
		if err := p.price(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/price", Users: 70, Pause: 10 * time.Millisecond})
	s.Wait()
}
