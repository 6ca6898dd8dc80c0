// Ok-bounded-job reads a partner's pages.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type job struct {
	turns *semaphore.Weighted
	http  *http.Client
	base  string
}

func (j *job) page(ctx context.Context, n int) error {
	if err := j.turns.Acquire(ctx, 1); err != nil {
		return err
	}
	defer j.turns.Release(1)
	resp, err := j.http.Get(fmt.Sprint(j.base, "/page/", n))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func main() {
	stage.Child("partner", standin.Web(standin.Always(40*time.Millisecond)))
	s := stage.Start()
	j := &job{semaphore.NewWeighted(6), &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 6}}, "http://" + s.Spawn("partner")}
	go func() {
		for {
			var all sync.WaitGroup
			for n := range 36 {
				all.Go(func() { _ = j.page(s.Context(), n) })
			}
			all.Wait()
		}
	}()
	s.Wait()
}
