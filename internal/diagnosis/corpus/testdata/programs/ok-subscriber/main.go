// Ok-subscriber reads topics from a broker that seldom has anything.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type consumer struct {
	conn net.Conn
	seen *atomic.Int64
}

func (c consumer) poll() {
	r := bufio.NewReader(c.conn)
	for {
		if _, err := r.ReadString('\n'); err != nil {
			return
		}
		c.seen.Add(1)
	}
}

func broker(ctx context.Context, l net.Listener) error {
	for ctx.Err() == nil {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			for n := 0; ctx.Err() == nil; n++ {
				time.Sleep(3 * time.Second)
				if _, err := fmt.Fprintln(conn, "message", n); err != nil {
					return
				}
			}
		}()
	}
	return nil
}

func main() {
	stage.Child("broker", broker)
	s := stage.Start()
	addr := s.Spawn("broker")
	var seen atomic.Int64
	for range 64 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			panic(err)
		}
		go consumer{conn, &seen}.poll()
	}
	s.Wait()
}
