// Ok-report-queue has a few reports made at a time, by a service that takes its time.
package main

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type reporter struct{ base string }

func (r *reporter) make(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+"/report", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func main() {
	stage.Child("reports", standin.Web(standin.Always(250*time.Millisecond)))
	s := stage.Start()
	r := &reporter{"http://" + s.Spawn("reports")}
	mux := http.NewServeMux()
	mux.HandleFunc("/ping", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("pong")) })
	go func() {
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for range tick.C {
			_ = r.make(s.Context())
		}
	}()
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/ping", PerSecond: 100})
	s.Wait()
}
