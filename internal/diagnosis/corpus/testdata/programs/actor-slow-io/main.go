// Actor-slow-io owns a wallet.
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

type change struct {
	chips int
	done  chan error
}

type owner struct {
	in   chan change
	conn net.Conn
	r    *bufio.Reader
}

func (o *owner) save() error {
	if _, err := fmt.Fprint(o.conn, "*1\r\n$4\r\nSAVE\r\n"); err != nil {
		return err
	}
	_, err := o.r.ReadString('\n') // want: channel-backpressure
	return err
}

func (o *owner) run() {
	for c := range o.in {
		c.done <- o.save() // want: channel-backpressure
	}
}

func (o *owner) apply(chips int) error {
	c := change{chips, make(chan error, 1)}
	o.in <- c       // want: channel-backpressure
	return <-c.done // want: channel-backpressure
}

func main() {
	stage.Child("store", standin.Redis(standin.Always(25*time.Millisecond)))
	s := stage.Start()
	conn, err := net.Dial("tcp", s.Spawn("store"))
	if err != nil {
		panic(err)
	}
	o := &owner{make(chan change), conn, bufio.NewReader(conn)}
	go o.run()
	mux := http.NewServeMux()
	mux.HandleFunc("/bet", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.apply(5); err != nil { // want: channel-backpressure
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/bet", Users: 40, Pause: 5 * time.Millisecond})
	s.Wait()
}
