// Ok-mux-rpc asks for prices over one connection.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

func servePrices(c net.Conn) {
	defer c.Close()
	var mu sync.Mutex
	for in := bufio.NewScanner(c); in.Scan(); {
		line := in.Text()
		time.AfterFunc(2*time.Millisecond, func() {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintln(c, line)
		})
	}
}

type client struct {
	mu      sync.Mutex
	conn    net.Conn
	next    int
	pending map[int]chan string
}

func (c *client) read() {
	for in := bufio.NewScanner(c.conn); in.Scan(); {
		var id int
		fmt.Sscan(in.Text(), &id)
		c.mu.Lock()
		ch := c.pending[id]
		delete(c.pending, id)
		c.mu.Unlock()
		if ch != nil {
			ch <- in.Text()
		}
	}
}

func (c *client) call(ctx context.Context) (string, error) {
	ch := make(chan string, 1)
	c.mu.Lock()
	c.next++
	id := c.next
	c.pending[id] = ch
	_, err := fmt.Fprintln(c.conn, id)
	c.mu.Unlock()
	if err != nil {
		return "", err
	}
	select {
	case v := <-ch:
		return v, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func main() {
	stage.Child("prices", func(_ context.Context, l net.Listener) error {
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go servePrices(c)
		}
	})
	s := stage.Start()
	conn, err := net.Dial("tcp", s.Spawn("prices"))
	if err != nil {
		panic(err)
	}
	c := &client{conn: conn, pending: map[int]chan string{}}
	go c.read()
	mux := http.NewServeMux()
	mux.HandleFunc("/price", func(w http.ResponseWriter, r *http.Request) {
		v, err := c.call(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, v)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/price", PerSecond: 400})
	s.Wait()
}
