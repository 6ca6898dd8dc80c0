// Command season-audit grants the season's rewards and keeps an audit log.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// ---- audit sink ----

// collectorSink sends lines to the collector, which acknowledges each.
type collectorSink struct {
	nc net.Conn
	r  *bufio.Reader
}

func dialCollector(addr string) (io.Writer, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &collectorSink{nc, bufio.NewReader(nc)}, nil
}

func (s *collectorSink) Write(p []byte) (int, error) {
	n, err := s.nc.Write(p) // want: log-contention
	if err != nil {
		return n, err
	}
	if _, err := s.r.ReadByte(); err != nil { // want: log-contention
		return n, fmt.Errorf("collector: %w", err)
	}
	return n, nil
}

func newLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, nil)).With("service", "season") // want: log-contention
}

// ---- rewards ----

type Granter struct {
	log *slog.Logger
}

func (g *Granter) grant(ctx context.Context, player, tier int) int {
	coins := 100 * (tier + 1)
	g.audit(ctx, "granted", player, slog.Int("tier", tier), slog.Int("coins", coins)) // want: log-contention
	return coins
}

func (g *Granter) audit(ctx context.Context, what string, player int, attrs ...slog.Attr) {
	attrs = append(attrs, slog.Int("player", player))
	g.log.LogAttrs(ctx, slog.LevelInfo, what, attrs...) // want: log-contention
}

func (g *Granter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, _ := strconv.Atoi(r.FormValue("p"))
	fmt.Fprintln(w, g.grant(r.Context(), p, rand.IntN(10)))
}

func withAccess(l *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		next.ServeHTTP(w, r)
		l.InfoContext(r.Context(), "served", "path", r.URL.Path, "took", time.Since(start)) // want: log-contention
	})
}

// ---- collector ----

func collector() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				sc := bufio.NewScanner(nc)
				for sc.Scan() {
					time.Sleep(3 * time.Millisecond)
					_, _ = nc.Write([]byte{'+'})
				}
			}()
		}
	}()
	return ln.Addr().String()
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// drive lets n clients call url, each pausing between its calls.
func drive(ctx context.Context, n int, pause time.Duration, url func() string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for range n {
		go func() {
			for ctx.Err() == nil {
				if resp, err := client.Get(url()); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(pause)
			}
		}()
	}
}

// observe serves the profiles and joins the centre.
func observe() *agent.Agent {
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
	return a
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	a := observe()
	defer a.Close()

	sink, err := dialCollector(collector())
	if err != nil {
		log.Fatal(err)
	}
	l := newLogger(sink)
	url := serve(withAccess(l, &Granter{log: l}))
	drive(ctx, 50, 20*time.Millisecond, func() string { return fmt.Sprintf("%s/grant?p=%d", url, rand.IntN(1e5)) })
	<-ctx.Done()
}
