// Consumer-signed-http rates bets that come by a queue.
package main

import (
	"io"
	"net/http"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
	"time"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func signed(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		r.Header.Set("X-Signature", "a1b2")
		return next.RoundTrip(r)
	})
}

func counted(next http.RoundTripper, n *int) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		return next.RoundTrip(r)
	})
}

type bet struct{ id, stake int }

type rater struct {
	http *http.Client
	base string
}

func (r *rater) rate(b bet) error {
	resp, err := r.http.Post(r.base+"/risk", "application/json", strings.NewReader("{}")) // want: downstream-wait
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

type consumer struct{ in chan bet }

func (c *consumer) run(handle func(bet) error) error {
	for b := range c.in {
		if err := handle(b); err != nil { // want: downstream-wait
			return err
		}
	}
	return nil
}

func main() {
	stage.Child("risk", standin.Web(standin.Always(500*time.Millisecond)))
	s := stage.Start()
	var n int
	r := &rater{&http.Client{Transport: signed(counted(&http.Transport{MaxIdleConnsPerHost: 30}, &n))}, "http://" + s.Spawn("risk")}
	c := &consumer{make(chan bet, 100)}
	var g errgroup.Group
	for range 24 {
		g.Go(func() error { return c.run(r.rate) })
	}
	go func() {
		for i := 0; ; i++ {
			c.in <- bet{i, 10}
			time.Sleep(15 * time.Millisecond)
		}
	}()
	s.Wait()
}
