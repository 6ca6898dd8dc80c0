// Command ok-replay-pack packs replays for download.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type packer struct {
	zip *gzip.Writer
	buf bytes.Buffer
}

var packers = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	return &packer{zip: z}
}}

type Source interface{ Frames(id int) []byte }

type memory struct{ frames []byte }

func (m memory) Frames(id int) []byte {
	n := id % 1024
	return m.frames[n : n+16<<10]
}

// pack hands the packed bytes to f, which must not keep them.
func pack(b []byte, f func([]byte) error) error {
	p := packers.Get().(*packer)
	defer packers.Put(p)
	p.buf.Reset()
	p.zip.Reset(&p.buf)
	if _, err := p.zip.Write(b); err != nil {
		return err
	}
	if err := p.zip.Close(); err != nil {
		return err
	}
	return f(p.buf.Bytes())
}

type Replays struct{ src Source }

func (h Replays) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := pack(h.src.Frames(rand.IntN(1e6)), func(b []byte) error {
		_, err := w.Write(b)
		return err
	}); err != nil {
		log.Printf("replay: %v", err)
	}
}

func main() {
	ctx, _, done := boot()
	defer done()
	frames := make([]byte, 32<<10)
	for i := range frames {
		frames[i] = byte(rand.IntN(20))
	}
	url := serve(Replays{memory{frames}})
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	players(ctx, 12, 120*time.Millisecond, func(int) error { return call(c, url) })
	<-ctx.Done()
}

func boot() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	return ctx, a, func() { a.Close(); stop() }
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// players runs n players that each call f and then wait.
func players(ctx context.Context, n int, pause time.Duration, f func(i int) error) {
	for i := range n {
		go func() {
			time.Sleep(time.Duration(rand.Int64N(int64(pause) + 1)))
			for ctx.Err() == nil {
				_ = f(i)
				time.Sleep(pause)
			}
		}()
	}
}

func call(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
