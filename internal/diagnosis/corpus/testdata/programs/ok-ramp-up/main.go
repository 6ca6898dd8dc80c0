// Ok-ramp-up is a lobby that fills in the evening.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type lobby struct{ moves atomic.Int64 }

func (l *lobby) seat(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		l.moves.Add(1)
		if _, err := conn.Write([]byte(line)); err != nil {
			return
		}
	}
}

// crowd adds thirty players a second, each of whom makes a move a second.
func crowd(ctx context.Context, l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	tick := time.NewTicker(33 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		c, err := net.Dial("tcp", strings.TrimSpace(line))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		go func() {
			r := bufio.NewReader(c)
			for ctx.Err() == nil {
				fmt.Fprintln(c, "check")
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
	}
}

func main() {
	stage.Child("crowd of players", crowd)
	s := stage.Start()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	lb := &lobby{}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go lb.seat(conn)
		}
	}()
	conn, err := net.Dial("tcp", s.Spawn("crowd of players"))
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(conn, l.Addr())
	s.Wait()
}
