// Wallet-mux-rpc asks the wallet service over one connection.
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

// serveWallet answers "id\n" with the same after a while, in any order.
func serveWallet(c net.Conn) {
	defer c.Close()
	var mu sync.Mutex
	for in := bufio.NewScanner(c); in.Scan(); {
		line := in.Text()
		time.AfterFunc(350*time.Millisecond, func() {
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

func (c *client) call(method string) (string, error) {
	ch := make(chan string, 1)
	c.mu.Lock()
	c.next++
	id := c.next
	c.pending[id] = ch
	_, err := fmt.Fprintf(c.conn, "%d %s\n", id, method)
	c.mu.Unlock()
	if err != nil {
		return "", err
	}
	return <-ch, nil // want: downstream-wait
}

type wallets struct{ c *client }

func (w wallets) Balance(player string) (string, error) { return w.c.call("balance " + player) } // want: downstream-wait

func main() {
	stage.Child("wallet", func(_ context.Context, l net.Listener) error {
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go serveWallet(c)
		}
	})
	s := stage.Start()
	conn, err := net.Dial("tcp", s.Spawn("wallet"))
	if err != nil {
		panic(err)
	}
	c := &client{conn: conn, pending: map[int]chan string{}}
	go c.read()
	mux := http.NewServeMux()
	mux.HandleFunc("/balance", func(w http.ResponseWriter, r *http.Request) {
		v, err := wallets{c}.Balance(r.FormValue("player")) // want: downstream-wait
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, v)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/balance?player=7", Users: 60, Pause: 10 * time.Millisecond})
	s.Wait()
}
