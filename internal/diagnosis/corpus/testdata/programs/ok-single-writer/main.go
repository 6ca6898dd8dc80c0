// Ok-single-writer keeps a journal; one goroutine writes, under a lock that hardly anybody else takes.
package main

import (
	"bufio"
	"net"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type journal struct {
	mu   sync.Mutex
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func (j *journal) append(entry string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.conn.Write([]byte("*2\r\n$4\r\nECHO\r\n$5\r\n" + entry[:5] + "\r\n")); err != nil {
		return err
	}
	if _, err := j.r.ReadString('\n'); err != nil {
		return err
	}
	j.n++
	return nil
}

func (j *journal) length() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.n
}

func main() {
	stage.Child("store", standin.Redis(standin.Always(5*time.Millisecond)))
	s := stage.Start()
	conn, err := net.Dial("tcp", s.Spawn("store"))
	if err != nil {
		panic(err)
	}
	j := &journal{conn: conn, r: bufio.NewReader(conn)}
	go func() {
		tick := time.NewTicker(3 * time.Second)
		defer tick.Stop()
		for range tick.C {
			j.length()
		}
	}()
	for s.Context().Err() == nil {
		if j.append("entry") != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Wait()
}
