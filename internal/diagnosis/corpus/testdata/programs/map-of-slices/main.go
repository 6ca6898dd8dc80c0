// Map-of-slices keeps what was said.
package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type line struct {
	who  int
	text string
	at   time.Time
}

type archive struct {
	mu sync.Mutex
	by map[int][]line
}

func (a *archive) say(room, who int, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.by[room] = append(a.by[room], line{who, text, time.Now()}) // want: heap-growth
}

func main() {
	s := stage.Start()
	a := &archive{by: map[int][]line{}}
	go func() {
		n := 0
		for range time.Tick(5 * time.Millisecond) {
			for range 60 {
				n++
				a.say(n%500, n, fmt.Sprintf("player %d says that the cards of round %d were bad, and that the dealer knew", n, n/7)) // want: heap-growth
			}
		}
	}()
	s.Wait()
}
