// Ok-conn-locks writes to players.
package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type player struct {
	mu   sync.Mutex
	conn net.Conn
}

func (p *player) send(m string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := fmt.Fprintln(p.conn, m)
	return err
}

func main() {
	stage.Child("players", func(_ context.Context, l net.Listener) error {
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go func() { _, _ = io.Copy(io.Discard, c) }()
		}
	})
	s := stage.Start()
	addr := s.Spawn("players")
	var all []*player
	for range 60 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			panic(err)
		}
		all = append(all, &player{conn: c})
	}
	for range 4 {
		go func() {
			for range time.Tick(5 * time.Millisecond) {
				_ = all[rand.IntN(len(all))].send("your turn")
			}
		}()
	}
	s.Wait()
}
