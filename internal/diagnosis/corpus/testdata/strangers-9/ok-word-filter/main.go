// Command ok-word-filter filters chat lines.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

var words = regexp.MustCompile(`(?i)\b(spam|scam|cheat(er|s)?|bot(s|ting)?)\b`)

var links = regexp.MustCompile(`https?://[^\s]+`)

type Filter interface{ Clean(string) string }

type pattern struct {
	re   *regexp.Regexp
	with string
}

func (p pattern) Clean(s string) string {
	if !p.re.MatchString(s) {
		return s
	}
	return p.re.ReplaceAllString(s, p.with)
}

type chain []Filter

func (c chain) Clean(s string) string {
	for _, f := range c {
		s = f.Clean(s)
	}
	return s
}

func filtered(f Filter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		q.Set("line", f.Clean(q.Get("line")))
		r.URL.RawQuery = q.Encode()
		next.ServeHTTP(w, r)
	})
}

func main() {
	ctx, _, done := boot()
	defer done()
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.URL.Query().Get("line"))
	})
	url := serve(filtered(chain{pattern{words, "***"}, pattern{links, "[link]"}}, echo))
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	lines := []string{"gg+wp", "what+a+cheater", "see+http://example.org/x+for+bots", "next+round+please"}
	players(ctx, 20, 60*time.Millisecond, func(i int) error { return call(c, url+"/?line="+lines[i%len(lines)]) })
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
