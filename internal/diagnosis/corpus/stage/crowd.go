package stage

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Traffic is what a crowd asks for. Exactly one of Users and PerSecond is set.
type Traffic struct {
	URL string
	// Users ask one request after the other, with Pause in between.
	Users int
	Pause time.Duration
	// PerSecond requests begin, whether or not the earlier ones have ended.
	PerSecond float64
	// Patience ends a request that takes longer; 0 = 2 minutes.
	Patience time.Duration
	// Body makes the requests POSTs; empty = GET.
	Body string
	// Reconnect makes a connection for each request.
	Reconnect bool
}

const crowdChild = "crowd"

// Crowd lets a crowd of users loose on the program, from a process of its own.
func (s *Stage) Crowd(t Traffic) {
	arg, err := json.Marshal(t)
	must(err)
	s.spawn(crowdChild, string(arg))
}

// runCrowd does the crowd's work and does not return, in a crowd's process.
func runCrowd() {
	if os.Getenv(childVar) != crowdChild {
		return
	}
	var t Traffic
	must(json.Unmarshal([]byte(os.Getenv(argVar)), &t))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is gone, however it went
		cancel()
		time.Sleep(time.Second)
		os.Exit(0)
	}()
	t.run(ctx)
	os.Exit(0)
}

func (t Traffic) run(ctx context.Context) {
	if t.Patience == 0 {
		t.Patience = 2 * time.Minute
	}
	client := &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 10_000,
		DisableKeepAlives:   t.Reconnect,
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, // the program's own certificate
	}}
	var all sync.WaitGroup
	defer all.Wait()
	if t.PerSecond > 0 {
		tick := time.NewTicker(time.Duration(float64(time.Second) / t.PerSecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				all.Go(func() { t.ask(ctx, client) })
			}
		}
	}
	for i := range t.Users {
		all.Go(func() {
			// Not all at the same moment.
			pause(ctx, t.Pause*time.Duration(i)/time.Duration(t.Users))
			for ctx.Err() == nil {
				t.ask(ctx, client)
				pause(ctx, t.Pause)
			}
		})
	}
}

// ask makes one request. Whether it succeeds is not the crowd's business.
func (t Traffic) ask(ctx context.Context, client *http.Client) {
	ctx, cancel := context.WithTimeout(ctx, t.Patience)
	defer cancel()
	method := http.MethodGet
	if t.Body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, t.URL, strings.NewReader(t.Body))
	must(err)
	resp, err := client.Do(req)
	if err != nil {
		pause(ctx, 10*time.Millisecond)
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
