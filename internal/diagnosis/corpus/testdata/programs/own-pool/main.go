// Own-pool shares a few connections to a cache.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type conn struct {
	net.Conn
	r *bufio.Reader
}

type pool struct{ free chan *conn }

func newPool(addr string, n int) (*pool, error) {
	p := &pool{make(chan *conn, n)}
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		p.free <- &conn{c, bufio.NewReader(c)}
	}
	return p, nil
}

func (p *pool) get() *conn  { return <-p.free } // want: pool-exhausted
func (p *pool) put(c *conn) { p.free <- c }

func (p *pool) ask(key string) (string, error) {
	c := p.get() // want: pool-exhausted
	defer p.put(c)
	if _, err := fmt.Fprintf(c, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key); err != nil {
		return "", err
	}
	return c.r.ReadString('\n') // want: pool-exhausted
}

func main() {
	stage.Child("cache", standin.Redis(standin.Always(120*time.Millisecond)))
	s := stage.Start()
	p, err := newPool(s.Spawn("cache"), 5)
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/item", func(w http.ResponseWriter, r *http.Request) {
		v, err := p.ask(r.FormValue("key")) // want: pool-exhausted
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, v)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/item?key=sword", Users: 60, Pause: 10 * time.Millisecond})
	s.Wait()
}
