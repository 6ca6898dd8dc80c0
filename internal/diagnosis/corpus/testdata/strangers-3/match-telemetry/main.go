// Command match-telemetry takes what game servers report and forwards it.
package main

import (
	"bytes"
	"compress/gzip"
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
	"time"
)

type report struct {
	Match  string         `json:"match"`
	Tick   int            `json:"tick"`
	Values map[string]int `json:"values"`
}

type forwarder struct {
	in  chan report
	url string
	hc  *http.Client
}

func (f *forwarder) offer(ctx context.Context, r report) error {
	select { // want: channel-backpressure
	case f.in <- r: // want: channel-backpressure
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *forwarder) run() {
	var buf bytes.Buffer
	for r := range f.in {
		buf.Reset()
		zw := gzip.NewWriter(&buf)
		json.NewEncoder(zw).Encode(r)
		zw.Close()
		res, err := f.hc.Post(f.url, "application/gzip", bytes.NewReader(buf.Bytes()))
		if err != nil {
			log.Print(err)
			continue
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var rep report
	if err := json.NewDecoder(r.Body).Decode(&rep); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := f.offer(r.Context(), rep); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func serve(h http.Handler) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, h)
	return "http://" + l.Addr().String()
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	collector := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(25 * time.Millisecond)
		w.WriteHeader(http.StatusNoContent)
	}))
	f := &forwarder{make(chan report, 64), collector, &http.Client{Timeout: 5 * time.Second}}
	go f.run()
	url := serve(f)

	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for i := range 60 {
		go func() {
			for tick := 0; ; tick++ {
				body, _ := json.Marshal(report{fmt.Sprintf("m%d", i), tick, map[string]int{"kills": rand.IntN(9), "ping": rand.IntN(90)}})
				res, err := hc.Post(url, "application/json", bytes.NewReader(body))
				if err == nil {
					res.Body.Close()
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
	}
	select {}
}
