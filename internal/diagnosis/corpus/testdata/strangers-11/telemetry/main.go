package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
)

type event struct {
	Player string  `json:"player"`
	Kind   string  `json:"kind"`
	Value  float64 `json:"value"`
}

type writer struct {
	conn net.Conn
	rd   *bufio.Reader
}

func (w *writer) append(ev event) error {
	if _, err := fmt.Fprintf(w.conn, "XADD %s %s %g\r\n", ev.Player, ev.Kind, ev.Value); err != nil {
		return err
	}
	_, err := w.rd.ReadSlice('\n') // want: channel-backpressure
	return err
}

type lane struct {
	in  chan event
	out *writer
}

func (l *lane) drain(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ev := <-l.in:
			if err := l.out.append(ev); err != nil { // want: channel-backpressure
				return err
			}
		}
	}
}

type router struct {
	lanes []*lane
	seed  maphash.Seed
}

func newRouter(addr string, n, depth int) (*router, error) {
	rt := &router{seed: maphash.MakeSeed()}
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		rt.lanes = append(rt.lanes, &lane{make(chan event, depth), &writer{c, bufio.NewReader(c)}}) // want: channel-backpressure
	}
	return rt, nil
}

func (rt *router) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range rt.lanes {
		g.Go(func() error { return l.drain(ctx) })
	}
	return g.Wait()
}

func (rt *router) offer(ctx context.Context, ev event) error {
	l := rt.lanes[maphash.String(rt.seed, ev.Player)%uint64(len(rt.lanes))]
	select { // want: channel-backpressure
	case l.in <- ev: // want: channel-backpressure
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (rt *router) ingest(w http.ResponseWriter, r *http.Request) {
	dec := json.NewDecoder(r.Body)
	for n := 0; ; n++ {
		var ev event
		if err := dec.Decode(&ev); err == io.EOF {
			fmt.Fprintln(w, n)
			return
		} else if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := rt.offer(r.Context(), ev); err != nil { // want: channel-backpressure
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
}

func streamStore() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				for sc := bufio.NewScanner(c); sc.Scan(); {
					time.Sleep(11 * time.Millisecond)
					if _, err := io.WriteString(c, "+OK\r\n"); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()
	rt, err := newRouter(streamStore(), 3, 128)
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/events", rt.ingest)
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	for i := range 24 {
		go func() {
			for seq := 0; ; seq++ {
				var b bytes.Buffer
				enc := json.NewEncoder(&b)
				for k := range 20 {
					_ = enc.Encode(event{fmt.Sprintf("p%d-%d", i, k), "move", float64(seq)})
				}
				if resp, err := http.Post("http://"+ln.Addr().String()+"/v1/events", "application/x-ndjson", &b); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
		}()
	}
	log.Fatal(rt.run(context.Background()))
}
