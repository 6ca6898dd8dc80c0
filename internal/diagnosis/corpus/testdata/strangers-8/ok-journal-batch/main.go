// Command ok-journal-batch keeps the rooms' journal and ships it in batches.
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
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

// Sink takes whole batches.
type Sink interface {
	Ship(batch []byte) error
}

type tcpSink struct {
	nc net.Conn
	r  *bufio.Reader
}

func (s *tcpSink) Ship(b []byte) error {
	if _, err := fmt.Fprintf(s.nc, "%d\n", len(b)); err != nil {
		return err
	}
	if _, err := s.nc.Write(b); err != nil {
		return err
	}
	_, err := s.r.ReadByte()
	return err
}

// Journal collects lines and gives them to its sink.
type Journal struct {
	mu   sync.Mutex
	buf  *bytes.Buffer
	free *bytes.Buffer
	max  int
	lost int
	sink Sink
}

func (j *Journal) Printf(format string, args ...any) {
	line := fmt.Appendf(make([]byte, 0, 96), format+"\n", args...)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.buf.Len()+len(line) > j.max {
		j.lost++
		return
	}
	j.buf.Write(line)
}

func (j *Journal) swap() *bytes.Buffer {
	j.mu.Lock()
	defer j.mu.Unlock()
	full := j.buf
	j.buf, j.free = j.free, nil
	return full
}

func (j *Journal) flush() error {
	full := j.swap()
	var err error
	if full.Len() > 0 {
		err = j.sink.Ship(full.Bytes())
	}
	full.Reset()
	j.mu.Lock()
	j.free = full
	j.mu.Unlock()
	return err
}

func (j *Journal) run(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := j.flush(); err != nil {
				log.Print(err)
			}
		}
	}
}

// collect answers every batch after the store's time.
func collect(nc net.Conn, store time.Duration) {
	defer nc.Close()
	r := bufio.NewReader(nc)
	for {
		var n int
		if _, err := fmt.Fscanf(r, "%d\n", &n); err != nil {
			return
		}
		if _, err := r.Discard(n); err != nil {
			return
		}
		time.Sleep(store)
		_, _ = nc.Write([]byte{'+'})
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
			go collect(nc, 120*time.Millisecond)
		}
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	j := &Journal{buf: &bytes.Buffer{}, free: &bytes.Buffer{}, max: 4 << 20, sink: &tcpSink{nc, bufio.NewReader(nc)}}
	go j.run(ctx, 200*time.Millisecond)
	for room := range 60 {
		go func() {
			for ctx.Err() == nil {
				for range 5 {
					j.Printf("room=%d round=%d stake=%d", room, rand.IntN(1e6), rand.IntN(500))
				}
				time.Sleep(time.Duration(5+rand.IntN(10)) * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}
