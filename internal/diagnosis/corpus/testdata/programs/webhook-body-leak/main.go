// Webhook-body-leak tells partners what happened, some of whom answer with an error.
package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type hook struct {
	url    string
	client *http.Client
}

func (h *hook) deliver(ctx context.Context, n int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s/hook/%d", h.url, n), bytes.NewReader(make([]byte, 100)))
	if err != nil {
		return err
	}
	resp, err := h.client.Do(req) // want: response-body-leak
	if err != nil {
		return err
	}
	if n%2 == 0 {
		return fmt.Errorf("the partner answered %s", resp.Status)
	}
	return resp.Body.Close()
}

func main() {
	stage.Child("partner", standin.Web(standin.Always(2*time.Millisecond)))
	s := stage.Start()
	h := &hook{"http://" + s.Spawn("partner"), &http.Client{Transport: &http.Transport{}}}
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			<-tick.C
			go h.deliver(context.Background(), n)
		}
	}()
	s.Wait()
}
