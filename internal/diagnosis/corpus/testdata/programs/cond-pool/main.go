// Cond-pool keeps connections to a game server.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type link struct {
	net.Conn
	r *bufio.Reader
}

type links struct {
	mu   sync.Mutex
	back *sync.Cond
	idle []*link
}

func (p *links) borrow() *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) == 0 {
		p.back.Wait() // want: pool-exhausted
	}
	l := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return l
}

func (p *links) giveBack(l *link) {
	p.mu.Lock()
	p.idle = append(p.idle, l)
	p.mu.Unlock()
	p.back.Signal()
}

func (p *links) with(do func(*link) error) error {
	l := p.borrow() // want: pool-exhausted
	defer p.giveBack(l)
	return do(l)
}

func (p *links) state(room string) (line string, err error) {
	err = p.with(func(l *link) error { // want: pool-exhausted
		if _, err := fmt.Fprintf(l, "*2\r\n$5\r\nSTATE\r\n$%d\r\n%s\r\n", len(room), room); err != nil {
			return err
		}
		line, err = l.r.ReadString('\n') // want: pool-exhausted
		return err
	})
	return line, err
}

func main() {
	stage.Child("server", standin.Redis(standin.Always(90*time.Millisecond)))
	s := stage.Start()
	p := &links{}
	p.back = sync.NewCond(&p.mu)
	addr := s.Spawn("server")
	for range 4 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			panic(err)
		}
		p.giveBack(&link{c, bufio.NewReader(c)})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/room", func(w http.ResponseWriter, _ *http.Request) {
		line, err := p.state("lobby")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, line)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/room", Users: 54, Pause: 5 * time.Millisecond})
	s.Wait()
}
