// Gate-unreturned lets a few withdrawals through at a time.
package main

import (
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

var errRisk = errors.New("held for review")

type gate struct{ inside chan struct{} }

func (g *gate) enter() { g.inside <- struct{}{} }
func (g *gate) leave() { <-g.inside }

type cashier struct {
	gate *gate
	n    atomic.Int64
}

func (c *cashier) withdraw() error {
	c.gate.enter() // want: pool-leaked
	if c.n.Add(1)%20 == 0 {
		return errRisk
	}
	time.Sleep(3 * time.Millisecond)
	c.gate.leave()
	return nil
}

func main() {
	s := stage.Start()
	c := &cashier{gate: &gate{make(chan struct{}, 12)}}
	mux := http.NewServeMux()
	mux.HandleFunc("/withdraw", func(w http.ResponseWriter, _ *http.Request) {
		if err := c.withdraw(); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/withdraw", Users: 40, Pause: 10 * time.Millisecond})
	s.Wait()
}
