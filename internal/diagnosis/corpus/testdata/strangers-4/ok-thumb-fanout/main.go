// Thumbnails: fetches and scales screenshots, a fixed number at a time.
package main

import (
	"context"
	"fmt"
	"hash/adler32"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
	"golang.org/x/sync/errgroup"
)

func store() {
	shot := make([]byte, 12<<10)
	for i := range shot {
		shot[i] = byte(i * 7)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	announce("http://" + ln.Addr().String())
	http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(shot) }))
}

type scaler struct {
	base   string
	client *http.Client
	made   atomic.Int64
	sum    atomic.Uint32
}

func (s *scaler) one(ctx context.Context, id int) error {
	req, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s/%d", s.base, id), nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	small := make([]byte, 0, len(raw)/16)
	for i := 0; i+16 <= len(raw); i += 16 {
		var t int
		for _, b := range raw[i : i+16] {
			t += int(b)
		}
		small = append(small, byte(t/16))
	}
	s.sum.Add(adler32.Checksum(small))
	s.made.Add(1)
	return nil
}

func (s *scaler) album(ctx context.Context, ids []int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, id := range ids {
		g.Go(func() error { return s.one(ctx, id) })
	}
	return g.Wait()
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "store" {
		store()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	base, err := spawn("store")
	if err != nil {
		log.Fatal(err)
	}
	s := &scaler{base: base, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}
	ids := make([]int, 200)
	for i := range ids {
		ids[i] = i
	}
	go func() {
		for range time.Tick(300 * time.Millisecond) {
			if err := s.album(ctx, ids); err != nil && ctx.Err() == nil {
				log.Print(err)
			}
		}
	}()
	<-ctx.Done()
}
