// Timers-kept invites players.
package main

import (
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type invitation struct {
	from, to int
	expires  *time.Timer
	answered bool
}

type post struct {
	mu  sync.Mutex
	all map[int]*invitation
	n   int
}

func (p *post) invite(from, to int) *invitation {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	i := &invitation{from: from, to: to, expires: time.NewTimer(time.Hour)} // want: timer-leak
	p.all[p.n] = i                                                          // want: timer-leak
	return i
}

func main() {
	s := stage.Start()
	p := &post{all: map[int]*invitation{}}
	go func() {
		for range time.Tick(10 * time.Millisecond) {
			for i := range 25 {
				p.invite(i, i+1).answered = true
			}
		}
	}()
	s.Wait()
}
