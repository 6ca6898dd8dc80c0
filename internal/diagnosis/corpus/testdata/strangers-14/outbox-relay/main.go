package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync/atomic"
	"time"
)

type job struct {
	Partition int    `json:"partition"`
	Offset    int64  `json:"offset"`
	Kind      string `json:"kind"`
}

// consumer takes the jobs of one partition with long polls.
type consumer struct {
	broker    string
	partition int
	client    *http.Client
	out       chan<- job
}

func (c *consumer) poll(ctx context.Context) ([]job, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/poll?partition=%d&wait=20s", c.broker, c.partition), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	var jobs []job
	return jobs, json.NewDecoder(resp.Body).Decode(&jobs)
}

func (c *consumer) run(ctx context.Context) {
	for ctx.Err() == nil {
		jobs, err := c.poll(ctx)
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		for _, j := range jobs {
			c.out <- j
		}
	}
}

type relay struct {
	jobs chan job
	done atomic.Int64
}

func (r *relay) worker() {
	for j := range r.jobs {
		if j.Kind != "" {
			r.done.Add(1)
		}
	}
}

func (r *relay) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, `{"done":%d,"queued":%d}`, r.done.Load(), len(r.jobs))
}

func listen(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

// broker answers a poll when there is something, or with nothing after its wait.
func broker() http.Handler {
	var offset atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		wait, err := time.ParseDuration(q.Get("wait"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		arrival := time.Duration(4+rand.IntN(30)) * time.Second
		t := time.NewTimer(min(arrival, wait))
		defer t.Stop()
		select {
		case <-r.Context().Done():
			return
		case <-t.C:
		}
		if arrival > wait {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		var partition int
		_, _ = fmt.Sscan(q.Get("partition"), &partition)
		_ = json.NewEncoder(w).Encode([]job{{Partition: partition, Offset: offset.Add(1), Kind: "mail"}})
	})
}

func main() {
	r := &relay{jobs: make(chan job, 64)}
	for range 48 {
		go r.worker()
	}
	url := listen(broker())
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for p := range 48 {
		c := &consumer{broker: url, partition: p, client: client, out: r.jobs}
		go c.run(context.Background())
	}
	status := listen(r)
	for range 8 {
		go func() {
			for {
				resp, err := client.Get(status)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
