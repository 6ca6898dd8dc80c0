// Command ledger-file appends entries to the day ledger that several processes share.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Entry struct {
	Player int   `json:"player"`
	Amount int64 `json:"amount"`
}

type Ledger interface {
	Append(Entry) error
}

// fileLedger is a file with an advisory lock around each change.
type fileLedger struct{ path string }

func (l *fileLedger) locked(f func(*os.File) error) error {
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	fd := int(file.Fd())
	if err := syscall.Flock(fd, syscall.LOCK_EX); err != nil { // want: thread-explosion
		return err
	}
	defer syscall.Flock(fd, syscall.LOCK_UN)
	return f(file)
}

func (l *fileLedger) Append(e Entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return l.locked(func(f *os.File) error { // want: thread-explosion
		if _, err := f.Write(append(b, '\n')); err != nil {
			return err
		}
		return confirm(f)
	})
}

// confirm waits until the replica has taken the entry.
func confirm(*os.File) error {
	time.Sleep(8 * time.Millisecond)
	return nil
}

type Payments struct{ ledger Ledger }

func (p Payments) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := p.ledger.Append(Entry{Player: rand.IntN(1e6), Amount: rand.Int64N(500)}); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	ctx, _, done := boot()
	defer done()
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	url := serve(Payments{&fileLedger{filepath.Join(dir, "day.jsonl")}})
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
	players(ctx, 150, 30*time.Millisecond, func(int) error { return call(c, url) })
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
