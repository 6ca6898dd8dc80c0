// Command arena-gateway keeps the players' connections to the arena.
package main

import (
	"bufio"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

type client struct {
	conn  net.Conn
	token string
	seen  time.Time
	inbox []byte
	out   chan string
}

type hub struct {
	mu     sync.Mutex
	online map[net.Conn]*client
	resume map[string]*client
}

func (h *hub) join(conn net.Conn, token string) *client {
	c := &client{
		conn:  conn,
		token: token,
		seen:  time.Now(),
		inbox: make([]byte, 0, 24<<10), // want: heap-growth
		out:   make(chan string, 8),
	}
	h.mu.Lock()
	h.online[conn] = c
	h.resume[token] = c
	h.mu.Unlock()
	return c
}

func (h *hub) leave(c *client) {
	h.mu.Lock()
	delete(h.online, c.conn)
	h.mu.Unlock()
	close(c.out)
	c.conn.Close()
}

func (h *hub) serve(conn net.Conn) {
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		conn.Close()
		return
	}
	c := h.join(conn, strings.TrimSpace(line))
	defer h.leave(c)
	go func() {
		for s := range c.out {
			fmt.Fprintln(conn, s)
		}
	}()
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		c.seen = time.Now()
		c.inbox = append(c.inbox[:0], line...)
		select {
		case c.out <- "ok " + string(c.inbox[:len(c.inbox)-1]):
		default:
		}
	}
}

func player(addr string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		log.Print(err)
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "t%016x\n", rand.Uint64())
	r := bufio.NewReaderSize(conn, 512)
	for n := range 3 {
		fmt.Fprintf(conn, "move %d %d\n", n, rand.IntN(64))
		if _, err := r.ReadString('\n'); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func main() {
	runtime.SetBlockProfileRate(100_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	h := &hub{online: map[net.Conn]*client{}, resume: map[string]*client{}}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				log.Fatal(err)
			}
			go h.serve(conn)
		}
	}()
	// Mobile players: on and off all the time.
	for range time.Tick(14 * time.Millisecond) {
		go player(l.Addr().String())
	}
}
