// Growth-behind-slow-writer queues pushes without a limit.
package main

import (
	"net"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type outbox struct {
	mu      sync.Mutex
	ready   *sync.Cond
	pending [][]byte
	conn    net.Conn
}

func (o *outbox) push(b []byte) {
	o.mu.Lock()
	o.pending = append(o.pending, b) // want: heap-growth
	o.mu.Unlock()
	o.ready.Signal()
}

func (o *outbox) drain() {
	for {
		o.mu.Lock()
		for len(o.pending) == 0 {
			o.ready.Wait()
		}
		b := o.pending[0]
		o.pending = o.pending[1:]
		o.mu.Unlock()
		if _, err := o.conn.Write(b); err != nil {
			return
		}
	}
}

func announcement(n int) []byte {
	b := make([]byte, 8<<10) // want: heap-growth
	b[0] = byte(n)
	return b
}

func main() {
	stage.Child("player", standin.Sink(50<<10))
	s := stage.Start()
	conn, err := net.Dial("tcp", s.Spawn("player"))
	if err != nil {
		panic(err)
	}
	o := &outbox{conn: conn}
	o.ready = sync.NewCond(&o.mu)
	go o.drain()
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			<-tick.C
			o.push(announcement(n))
		}
	}()
	s.Wait()
}
