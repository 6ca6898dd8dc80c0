// Command archive-segments appends finished rounds to archive segments that
// several services share through file locks.
package main

import (
	"context"
	"encoding/gob"
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
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Record struct {
	Round  uint64
	Table  string
	Result string
	Paid   int64
}

// Locked runs f while nobody else, in whatever process, has the file.
type Locked interface {
	With(f func(*os.File) error) error
}

type segment struct {
	path string
}

func (s segment) With(f func(*os.File) error) (err error) {
	file, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil { // want: thread-explosion
		return fmt.Errorf("lock %s: %w", s.path, err)
	}
	return f(file)
}

type Archive struct {
	segs    []Locked
	written atomic.Int64
}

func OpenArchive(dir string, n int) *Archive {
	a := &Archive{}
	for i := range n {
		a.segs = append(a.segs, segment{filepath.Join(dir, fmt.Sprintf("seg-%02d.gob", i))})
	}
	return a
}

const segmentMax = 1 << 20

func (a *Archive) Append(r Record) error {
	seg := a.segs[r.Round%uint64(len(a.segs))]
	return seg.With(func(f *os.File) error { // want: thread-explosion
		at, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if at > segmentMax {
			if err := f.Truncate(0); err != nil {
				return err
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
		}
		if err := gob.NewEncoder(f).Encode(r); err != nil {
			return err
		}
		a.written.Add(1)
		return a.replicate(f)
	})
}

// replicate gives the standby time to copy the tail.
func (a *Archive) replicate(f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	time.Sleep(25 * time.Millisecond)
	return nil
}

type recordAPI struct {
	archive *Archive
	seq     atomic.Uint64
}

func (api *recordAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := Record{Round: api.seq.Add(1), Table: r.URL.Path, Result: strings.Repeat("R", 1+rand.IntN(20)), Paid: rand.Int64N(1e5)}
	if err := api.archive.Append(rec); err != nil { // want: thread-explosion
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, rec.Round)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
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
	defer a.Close()

	dir, err := os.MkdirTemp("", "archive")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: &recordAPI{archive: OpenArchive(dir, 4)}}
	go func() { _ = srv.Serve(ln) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 300}}
	for i := range 260 {
		go func() {
			for ctx.Err() == nil {
				resp, err := client.Post(fmt.Sprintf("http://%s/t%d", ln.Addr(), i%30), "text/plain", nil)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
	_ = srv.Close()
}
