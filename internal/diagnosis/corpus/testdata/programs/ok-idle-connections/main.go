// Ok-idle-connections holds the connections of ten thousand players who think.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type seat struct {
	conn net.Conn
	hand [64]byte
}

func (s *seat) listen() {
	defer s.conn.Close()
	r := bufio.NewReaderSize(s.conn, 512)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		copy(s.hand[:], line)
	}
}

const players = 4500

// thinkers connect, two of these children together make nearly ten thousand.
func thinkers(ctx context.Context, l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	var all []net.Conn
	for range players {
		c, err := net.Dial("tcp", strings.TrimSpace(line))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			break
		}
		all = append(all, c)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			fmt.Fprintln(all[n*7919%len(all)], "check")
		}
	}
}

func main() {
	stage.Child("thinkers", thinkers)
	s := stage.Start()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go (&seat{conn: conn}).listen()
		}
	}()
	for range 2 {
		conn, err := net.Dial("tcp", s.Spawn("thinkers"))
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(conn, l.Addr())
	}
	s.Wait()
}
