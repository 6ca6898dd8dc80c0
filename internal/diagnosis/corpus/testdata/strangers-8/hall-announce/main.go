// Command hall-announce brings the hall's announcements to the connected players.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
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

type Frame []byte

// Receiver takes the frames of a topic.
type Receiver interface {
	Deliver(f Frame)
}

// ---- connection ----

type Conn struct {
	nc   net.Conn
	out  chan Frame
	quit chan struct{}
}

func newConn(nc net.Conn) *Conn {
	c := &Conn{nc: nc, out: make(chan Frame, 16), quit: make(chan struct{})}
	go c.writeLoop()
	return c
}

func (c *Conn) Deliver(f Frame) {
	select { // want: channel-backpressure
	case c.out <- f: // want: channel-backpressure
	case <-c.quit:
	}
}

func (c *Conn) writeLoop() {
	defer close(c.quit)
	var head [4]byte
	for f := range c.out {
		binary.BigEndian.PutUint32(head[:], uint32(len(f)))
		bufs := net.Buffers{head[:], f}
		if _, err := bufs.WriteTo(c.nc); err != nil {
			return
		}
	}
}

// ---- topics ----

type Topic struct {
	mu  sync.RWMutex
	rcv []Receiver
	in  chan Frame
}

func newTopic(ctx context.Context) *Topic {
	t := &Topic{in: make(chan Frame, 4)}
	go t.loop(ctx)
	return t
}

func (t *Topic) Subscribe(r Receiver) {
	t.mu.Lock()
	t.rcv = append(t.rcv, r)
	t.mu.Unlock()
}

func (t *Topic) Publish(f Frame) { t.in <- f }

func (t *Topic) each(do func(Receiver)) {
	t.mu.RLock()
	rs := t.rcv
	t.mu.RUnlock()
	for _, r := range rs {
		do(r)
	}
}

func (t *Topic) loop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-t.in:
			t.each(func(r Receiver) { r.Deliver(f) }) // want: channel-backpressure
		}
	}
}

// ---- players ----

// play reads frames as fast as the player's line allows.
func play(addr string, perFrame time.Duration) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		log.Print(err)
		return
	}
	defer nc.Close()
	_ = nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	r := bufio.NewReaderSize(nc, 2<<10)
	var head [4]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, r, int64(binary.BigEndian.Uint32(head[:]))); err != nil {
			return
		}
		time.Sleep(perFrame)
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

	hall := newTopic(ctx)
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
			_ = nc.(*net.TCPConn).SetWriteBuffer(4 << 10)
			hall.Subscribe(newConn(nc))
		}
	}()
	for i := range 80 {
		line := time.Duration(0)
		if i%27 == 13 {
			line = 70 * time.Millisecond
		}
		go play(ln.Addr().String(), line)
	}
	for room := range 12 {
		go func() {
			body := bytes.Repeat([]byte(fmt.Sprintf("room %02d: jackpot! ", room)), 160)
			for ctx.Err() == nil {
				hall.Publish(body)
				time.Sleep(50 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}
