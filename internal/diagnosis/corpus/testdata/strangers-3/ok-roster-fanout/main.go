// Command ok-roster-fanout refreshes the rosters of all guilds every few seconds.
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
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

type roster struct {
	Guild   int
	Members []int
}

type refresher struct {
	url  string
	hc   *http.Client
	last []atomic.Pointer[roster]
}

func (f *refresher) one(ctx context.Context, guild int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/guild/%d", f.url, guild), nil)
	if err != nil {
		return err
	}
	res, err := f.hc.Do(req)
	if err != nil {
		return err
	}
	defer func() {
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}()
	r := &roster{}
	if err := json.NewDecoder(res.Body).Decode(r); err != nil {
		return err
	}
	f.last[guild].Store(r)
	return nil
}

func (f *refresher) all(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(100)
	for i := range f.last {
		g.Go(func() error { return f.one(ctx, i) })
	}
	return g.Wait()
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	mux := http.NewServeMux()
	mux.HandleFunc("GET /guild/{id}", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(5*time.Millisecond + rand.N(5*time.Millisecond))
		fmt.Fprintf(w, `{"Guild":%s,"Members":[%d,%d,%d]}`, r.PathValue("id"), rand.IntN(99), rand.IntN(99), rand.IntN(99))
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	f := &refresher{"http://" + l.Addr().String(),
		&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100, MaxConnsPerHost: 100}},
		make([]atomic.Pointer[roster], 3000)}
	for ; ; time.Sleep(3 * time.Second) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := f.all(ctx); err != nil {
			log.Print(err)
		}
		cancel()
	}
}
