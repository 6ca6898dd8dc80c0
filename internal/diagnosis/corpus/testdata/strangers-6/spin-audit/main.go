// Command spin-audit runs slot tables and leaves an audit line per step.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// rotating is a log file that starts over when it is large.
type rotating struct {
	f    *os.File
	size int64
	max  int64
}

func openRotating(path string, max int64) (*rotating, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|syscall.O_SYNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &rotating{f: f, max: max}, nil
}

func (r *rotating) Write(p []byte) (int, error) {
	if r.size += int64(len(p)); r.size > r.max {
		r.size = 0
		if _, err := r.f.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
	}
	n, err := r.f.Write(p) // want: log-contention
	if err != nil {
		return n, err
	}
	return n, r.f.Sync() // want: log-contention
}

func (r *rotating) Close() error { return r.f.Close() }

// scrub hides what must not be in a log.
type scrub struct {
	slog.Handler
}

func (s scrub) Handle(ctx context.Context, rec slog.Record) error {
	out := slog.NewRecord(rec.Time, rec.Level, rec.Message, rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		if a.Key == "token" {
			a.Value = slog.StringValue("***")
		}
		out.AddAttrs(a)
		return true
	})
	return s.Handler.Handle(ctx, out) // want: log-contention
}

type Reel [3]byte

func (r Reel) String() string { return string(bytes.ToUpper(r[:])) }

type Machine struct {
	log   *slog.Logger
	id    int
	token string
	won   atomic.Int64
}

func (m *Machine) reels() (out [5]Reel) {
	for i := range out {
		for j := range out[i] {
			out[i][j] = "abcdefgh"[rand.IntN(8)]
		}
		m.log.Info("reel stopped", "machine", m.id, "reel", i, "symbols", out[i], "token", m.token) // want: log-contention
	}
	return out
}

func (m *Machine) pay(rs [5]Reel) int64 {
	var win int64
	for _, r := range rs {
		if r[0] == r[1] {
			win += 5
		}
		if r[1] == r[2] {
			win += 5
		}
	}
	m.log.Info("paid", "machine", m.id, "win", win, "token", m.token) // want: log-contention
	return win
}

func (m *Machine) Spin() {
	m.won.Add(m.pay(m.reels()))
}

type Hall struct {
	machines []*Machine
	wg       sync.WaitGroup
}

func (h *Hall) Open(ctx context.Context) {
	for _, m := range h.machines {
		h.wg.Add(1)
		go func() {
			defer h.wg.Done()
			for ctx.Err() == nil {
				m.Spin()
				time.Sleep(time.Duration(10+rand.IntN(20)) * time.Millisecond)
			}
		}()
	}
}

func serveDebug() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	m := http.NewServeMux()
	m.HandleFunc("/debug/pprof/", pprof.Index)
	m.HandleFunc("/debug/pprof/profile", pprof.Profile)
	m.HandleFunc("/debug/pprof/trace", pprof.Trace)
	m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	go func() { log.Print(http.ListenAndServe(addr, m)) }()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	serveDebug()
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	defer a.Close()

	dir, err := os.MkdirTemp("", "spin-audit")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	out, err := openRotating(filepath.Join(dir, "audit.log"), 4<<20)
	if err != nil {
		log.Fatal(err)
	}
	defer out.Close()
	logger := slog.New(scrub{slog.NewJSONHandler(out, nil)})

	hall := &Hall{}
	for i := range 100 {
		hall.machines = append(hall.machines, &Machine{log: logger, id: i, token: fmt.Sprintf("t%08x", rand.Uint32())})
	}
	hall.Open(ctx)
	hall.wg.Wait()
}
