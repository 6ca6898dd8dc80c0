// Ok-keepalive-clients keeps connections to partners whom it seldom asks.
package main

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type partners struct {
	base   string
	client *http.Client
}

func (p *partners) ask(n int) error {
	resp, err := p.client.Get(fmt.Sprintf("%s/%d", p.base, n))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func main() {
	stage.Child("partners", standin.Web(standin.Always(15*time.Millisecond)))
	s := stage.Start()
	p := &partners{"http://" + s.Spawn("partners"), &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200, IdleConnTimeout: 5 * time.Minute}}}
	go func() {
		for {
			var all sync.WaitGroup
			for n := range 120 {
				all.Go(func() { _ = p.ask(n) })
			}
			all.Wait()
			time.Sleep(6 * time.Second)
		}
	}()
	s.Wait()
}
