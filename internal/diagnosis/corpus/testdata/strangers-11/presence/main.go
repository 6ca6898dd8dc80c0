package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"
)

type frame struct {
	op      byte
	session uint32
}

func (f frame) write(w io.Writer) error {
	var b [5]byte
	b[0] = f.op
	binary.LittleEndian.PutUint32(b[1:], f.session)
	_, err := w.Write(b[:])
	return err
}

func readFrame(r io.Reader) (f frame, err error) {
	var b [5]byte
	if _, err = io.ReadFull(r, b[:]); err == nil {
		f = frame{b[0], binary.LittleEndian.Uint32(b[1:])}
	}
	return f, err
}

const (
	opHello = iota
	opBeat
	opBye
)

type session struct {
	id    uint32
	conn  net.Conn
	watch *time.Timer
}

type gateway struct {
	grace    time.Duration
	online   atomic.Int64
	beats    atomic.Int64
	sessions sync.Map
	wg       sync.WaitGroup
}

func (g *gateway) serve(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			g.wg.Wait()
			return ctx.Err()
		} else if err != nil {
			return err
		}
		g.wg.Go(func() { g.handle(c) })
	}
}

func (g *gateway) handle(c net.Conn) {
	defer c.Close()
	rd := bufio.NewReaderSize(c, 64)
	hello, err := readFrame(rd)
	if err != nil || hello.op != opHello {
		return
	}
	s := &session{id: hello.session, conn: c}
	s.watch = time.AfterFunc(g.grace, func() { _ = c.Close() })
	defer s.watch.Stop()
	g.sessions.Store(s.id, s)
	defer g.sessions.CompareAndDelete(s.id, s)
	g.online.Add(1)
	defer g.online.Add(-1)
	for {
		f, err := readFrame(rd)
		if err != nil || f.op == opBye {
			return
		}
		g.beats.Add(1)
		s.watch.Reset(g.grace)
		if f.write(c) != nil {
			return
		}
	}
}

type device struct {
	id   uint32
	addr string
}

func (d device) live(ctx context.Context) error {
	var nd net.Dialer
	c, err := nd.DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := (frame{opHello, d.id}).write(c); err != nil {
		return err
	}
	time.Sleep(rand.N(20 * time.Second))
	beat := time.NewTicker(20 * time.Second)
	defer beat.Stop()
	for {
		if err := (frame{opBeat, d.id}).write(c); err != nil {
			return err
		}
		if _, err := readFrame(c); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return frame{opBye, d.id}.write(c)
		case <-beat.C:
		}
	}
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		slog.Error("listen", "err", err)
		os.Exit(1)
	}
	g := &gateway{grace: 90 * time.Second}
	go func() {
		for i := range uint32(3000) {
			go func() {
				if err := (device{i, ln.Addr().String()}).live(ctx); err != nil {
					slog.Warn("device", "id", i, "err", err)
				}
			}()
			if i%50 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
	}()
	http.HandleFunc("/online", func(w http.ResponseWriter, r *http.Request) {
		slog.New(slog.NewTextHandler(w, nil)).Info("presence", "online", g.online.Load(), "beats", g.beats.Load())
	})
	go func() { slog.Error("debug", "err", http.ListenAndServe(os.Getenv("ADDR"), nil)) }()
	slog.Info("done", "err", g.serve(ctx, ln))
}
