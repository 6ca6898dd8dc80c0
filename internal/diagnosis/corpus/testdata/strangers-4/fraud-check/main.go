// Fraud check: screens orders with the risk service.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

var errReview = errors.New("order needs a review")

func risk() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	var n atomic.Int64
	announce("http://" + ln.Addr().String())
	http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%3 == 0 {
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprintf(w, `{"reason":%q}`, strings.Repeat("velocity ", 60))
			return
		}
		fmt.Fprint(w, `{"score":12}`)
	}))
}

type verdict struct{ Score int }

func fetch[T any](ctx context.Context, c *http.Client, url string) (out T, err error) {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return out, err
	}
	resp, err := c.Do(req) // want: response-body-leak
	if err != nil {
		return out, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		defer resp.Body.Close()
		err = json.NewDecoder(resp.Body).Decode(&out)
	case http.StatusAccepted:
		err = errReview // want: response-body-leak
	default:
		resp.Body.Close()
		err = errors.New(resp.Status)
	}
	return out, err
}

type screening struct {
	client *http.Client
	url    string
	held   atomic.Int64
	passed atomic.Int64
}

func (s *screening) order(id int) {
	v, err := fetch[verdict](context.Background(), s.client, fmt.Sprintf("%s/score?order=%d", s.url, id))
	switch {
	case errors.Is(err, errReview):
		s.held.Add(1)
	case err == nil && v.Score < 50:
		s.passed.Add(1)
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "risk" {
		risk()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	url, err := spawn("risk")
	if err != nil {
		log.Fatal(err)
	}
	s := &screening{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}, url: url}
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for id := 0; ; id++ {
			select {
			case <-tick.C:
				s.order(id)
			case <-ctx.Done():
				return
			}
		}
	}()
	<-ctx.Done()
}
