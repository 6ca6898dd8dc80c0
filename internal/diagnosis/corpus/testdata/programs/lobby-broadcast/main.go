// Lobby-broadcast sends what happens in the lobby to every player.
package main

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type client struct {
	conn   net.Conn
	sendCh chan []byte
}

func (c *client) writeLoop() {
	w := bufio.NewWriterSize(c.conn, 512)
	for msg := range c.sendCh {
		if _, err := w.Write(msg); err != nil {
			return
		}
		if err := w.Flush(); err != nil {
			return
		}
	}
}

type lobby struct {
	mu      sync.RWMutex
	clients map[*client]bool
}

func (l *lobby) join(conn net.Conn) {
	c := &client{conn: conn, sendCh: make(chan []byte, 16)}
	l.mu.Lock()
	l.clients[c] = true
	l.mu.Unlock()
	go c.writeLoop()
}

func (l *lobby) broadcast(msg []byte) {
	l.mu.RLock()
	members := make([]*client, 0, len(l.clients))
	for c := range l.clients {
		members = append(members, c)
	}
	l.mu.RUnlock()
	for _, c := range members {
		c.sendCh <- msg // want: channel-backpressure
	}
}

func main() {
	stage.Child("fast", standin.Sink(50<<20))
	stage.Child("slow", standin.Sink(20<<10))
	s := stage.Start()
	l := &lobby{clients: map[*client]bool{}}
	fast, slow := s.Spawn("fast"), s.Spawn("slow")
	for i := range 40 {
		addr := fast
		if i%8 == 0 {
			addr = slow
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			panic(err)
		}
		_ = conn.(*net.TCPConn).SetWriteBuffer(4 << 10)
		l.join(conn)
	}
	go func() {
		for n := 0; ; n++ {
			msg := fmt.Appendf(nil, "announcement %d %01000d\n", n, n)
			l.broadcast(msg)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	s.Wait()
}
