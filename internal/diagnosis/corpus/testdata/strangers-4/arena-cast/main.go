// Arena cast: streams match events to spectators.
package main

import (
	"context"
	"encoding/binary"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type outbox[T any] struct{ queue chan T }

type topic[T any] struct {
	mu   sync.RWMutex
	subs []*outbox[T]
}

func (t *topic[T]) join(size int) *outbox[T] {
	o := &outbox[T]{queue: make(chan T, size)}
	t.mu.Lock()
	t.subs = append(t.subs, o)
	t.mu.Unlock()
	return o
}

func (t *topic[T]) members() []*outbox[T] {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return append([]*outbox[T](nil), t.subs...)
}

func (t *topic[T]) publish(ev T) {
	for _, o := range t.members() {
		o.queue <- ev // want: channel-backpressure
	}
}

type event struct {
	seq  uint64
	body [2048]byte
}

type arena struct {
	topic[*event]
	sent atomic.Uint64
}

func (a *arena) play(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.publish(&event{seq: a.sent.Add(1)})
		case <-ctx.Done():
			return
		}
	}
}

func (a *arena) spectate(c net.Conn) {
	defer c.Close()
	o := a.join(8)
	var head [8]byte
	for ev := range o.queue {
		binary.BigEndian.PutUint64(head[:], ev.seq)
		if _, err := c.Write(head[:]); err != nil {
			continue
		}
		if _, err := c.Write(ev.body[:]); err != nil {
			continue
		}
	}
}

func audience(addr string, arenas int) {
	announce("ready")
	for i := range arenas * 4 {
		go func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return
			}
			c.Write([]byte{byte(i % arenas)})
			buf := make([]byte, 4096)
			if i < arenas {
				c.(*net.TCPConn).SetReadBuffer(4096)
				for {
					time.Sleep(400 * time.Millisecond)
					if _, err := c.Read(buf[:1500]); err != nil {
						return
					}
				}
			}
			for {
				if _, err := c.Read(buf); err != nil {
					return
				}
			}
		}()
	}
	select {}
}

func main() {
	if len(os.Args) > 3 && os.Args[1] == "audience" {
		n, _ := strconv.Atoi(os.Args[3])
		audience(os.Args[2], n)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	arenas := make([]*arena, 24)
	for i := range arenas {
		arenas[i] = &arena{}
		go arenas[i].play(ctx)
	}
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
			go func() {
				var which [1]byte
				if _, err := c.Read(which[:]); err != nil {
					c.Close()
					return
				}
				c.(*net.TCPConn).SetWriteBuffer(8 << 10)
				arenas[int(which[0])%len(arenas)].spectate(c)
			}()
		}
	}()
	if _, err := spawn("audience", ln.Addr().String(), strconv.Itoa(len(arenas))); err != nil {
		log.Fatal(err)
	}
	<-ctx.Done()
}
