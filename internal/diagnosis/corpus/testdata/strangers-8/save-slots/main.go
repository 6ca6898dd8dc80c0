// Command save-slots writes the players' save games to the shared volume.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// ---- volume ----

// Guard keeps other writers of the volume out, of other hosts as well.
type Guard interface {
	Do(name string, f func() error) error
}

type fileGuard struct{ dir string }

func (g fileGuard) Do(name string, f func() error) (err error) {
	lf, err := os.OpenFile(filepath.Join(g.dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lf.Close()) }()
	fd := int(lf.Fd())
	if err := retryIntr(func() error { return syscall.Flock(fd, syscall.LOCK_EX) }); err != nil { // want: thread-explosion
		return fmt.Errorf("guard %s: %w", name, err)
	}
	return f() // want: thread-explosion
}

func retryIntr(f func() error) error {
	for {
		if err := f(); !errors.Is(err, syscall.EINTR) { // want: thread-explosion
			return err
		}
	}
}

// ---- slots ----

type Slots struct {
	dir    string
	shards int
	guard  Guard
	settle time.Duration
}

func (s *Slots) Save(player int, data []byte) error {
	shard := fmt.Sprintf("shard-%02d", player%s.shards)
	return s.guard.Do(shard, func() error { // want: thread-explosion
		name := filepath.Join(s.dir, fmt.Sprintf("%s-%d", shard, player%50))
		if err := os.WriteFile(name+".new", data, 0o600); err != nil {
			return err
		}
		time.Sleep(s.settle) // the volume wants a pause between write and rename
		return os.Rename(name+".new", name)
	})
}

type api struct{ slots *Slots }

func (a api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, err := strconv.Atoi(r.FormValue("p"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := a.slots.Save(p, make([]byte, 2048)); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
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

	dir, err := os.MkdirTemp("", "slots")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	url := serve(api{&Slots{dir: dir, shards: 4, guard: fileGuard{dir}, settle: 40 * time.Millisecond}})
	drive(ctx, 220, 30*time.Millisecond, func() string { return fmt.Sprintf("%s/?p=%d", url, rand.IntN(1e5)) })
	<-ctx.Done()
}
