// Command ok-event-batcher collects analytics events and writes them in
// batches to a collector.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Event struct {
	At     time.Time
	Player int
	Name   string
	Value  float64
}

// Batcher hands over items when there are enough or enough time has gone by.
type Batcher[T any] struct {
	in    chan T
	size  int
	every time.Duration
	flush func([]T) error
	lost  atomic.Int64
}

func NewBatcher[T any](size int, every time.Duration, flush func([]T) error) *Batcher[T] {
	return &Batcher[T]{in: make(chan T, 4*size), size: size, every: every, flush: flush}
}

func (b *Batcher[T]) Put(v T) {
	select {
	case b.in <- v:
	default:
		b.lost.Add(1)
	}
}

func (b *Batcher[T]) Run(ctx context.Context) {
	t := time.NewTicker(b.every)
	defer t.Stop()
	batch := make([]T, 0, b.size)
	out := func() {
		if len(batch) == 0 {
			return
		}
		if err := b.flush(batch); err != nil && ctx.Err() == nil {
			log.Print(err)
		}
		batch = batch[:0]
	}
	for {
		select {
		case <-ctx.Done():
			out()
			return
		case v := <-b.in:
			if batch = append(batch, v); len(batch) == b.size {
				out()
			}
		case <-t.C:
			out()
		}
	}
}

// collector writes batches over one connection and waits for the count.
type collector struct {
	conn net.Conn
	r    *bufio.Reader
	buf  bytes.Buffer
}

func (c *collector) Write(batch []Event) error {
	c.buf.Reset()
	c.buf.Write(make([]byte, 4))
	if err := gob.NewEncoder(&c.buf).Encode(batch); err != nil {
		return err
	}
	binary.BigEndian.PutUint32(c.buf.Bytes(), uint32(c.buf.Len()-4))
	if _, err := c.conn.Write(c.buf.Bytes()); err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	var ack [4]byte
	_, err := io.ReadFull(c.r, ack[:])
	return err
}

func collect(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		var n uint32
		if err := binary.Read(r, binary.BigEndian, &n); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil {
			return
		}
		time.Sleep(2 * time.Millisecond)
		if err := binary.Write(c, binary.BigEndian, n); err != nil {
			return
		}
	}
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

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go collect(c)
		}
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	col := &collector{conn: conn, r: bufio.NewReader(conn)}
	b := NewBatcher(500, 200*time.Millisecond, col.Write)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		b.Run(ctx)
	}()
	names := [...]string{"login", "bet", "win", "leave"}
	for p := range 60 {
		go func() {
			for n := 0; ctx.Err() == nil; n++ {
				b.Put(Event{At: time.Now(), Player: p, Name: names[n%4], Value: rand.Float64()})
				time.Sleep(time.Duration(10+rand.IntN(20)) * time.Millisecond)
			}
		}()
	}
	wg.Wait()
}
