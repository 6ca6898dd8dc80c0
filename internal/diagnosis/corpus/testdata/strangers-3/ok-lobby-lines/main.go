// Command ok-lobby-lines keeps the lines of players who sit in the lobby.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"sync"
	"time"
)

type line struct {
	net.Conn
	out  chan []byte
	quit chan struct{}
}

type lobby struct {
	mu    sync.RWMutex
	lines map[*line]struct{}
}

func (l *lobby) serve(c net.Conn) {
	ln := &line{c, make(chan []byte, 4), make(chan struct{})}
	l.mu.Lock()
	l.lines[ln] = struct{}{}
	l.mu.Unlock()
	go ln.write()
	defer func() {
		l.mu.Lock()
		delete(l.lines, ln)
		l.mu.Unlock()
		close(ln.quit)
		c.Close()
	}()
	r := bufio.NewReaderSize(c, 256)
	for {
		c.SetReadDeadline(time.Now().Add(5 * time.Minute))
		if _, err := r.ReadSlice('\n'); err != nil {
			if !errors.Is(err, io.EOF) {
				log.Print(err)
			}
			return
		}
	}
}

func (ln *line) write() {
	for {
		select {
		case p := <-ln.out:
			if _, err := ln.Write(p); err != nil {
				return
			}
		case <-ln.quit:
			return
		}
	}
}

func (l *lobby) announce(s string) {
	p := []byte(s + "\n")
	l.mu.RLock()
	defer l.mu.RUnlock()
	for ln := range l.lines {
		select {
		case ln.out <- p:
		default:
			ln.Close() // too slow to be worth waiting for
		}
	}
}

func player(addr string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		log.Print(err)
		return
	}
	go io.Copy(io.Discard, c)
	for {
		time.Sleep(20*time.Second + rand.N(20*time.Second))
		if _, err := io.WriteString(c, "alive\n"); err != nil {
			return
		}
	}
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	srv, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	l := &lobby{lines: map[*line]struct{}{}}
	go func() {
		for {
			c, err := srv.Accept()
			if err != nil {
				log.Fatal(err)
			}
			go l.serve(c)
		}
	}()
	for range 1500 {
		go player(srv.Addr().String())
		time.Sleep(time.Millisecond)
	}
	for n := range time.Tick(5 * time.Second) {
		l.announce(fmt.Sprintf("it is %s", n.Format(time.TimeOnly)))
	}
}
