// Command ok-mail-workers has a pool of workers for the letters players get.
package main

import (
	"bytes"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"regexp"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// queue is unbounded in theory; close ends its readers.
type queue[T any] struct {
	mu     sync.Mutex
	some   *sync.Cond
	items  []T
	closed bool
}

func newQueue[T any]() *queue[T] {
	q := &queue[T]{}
	q.some = sync.NewCond(&q.mu)
	return q
}

func (q *queue[T]) push(v T) {
	q.mu.Lock()
	q.items = append(q.items, v)
	q.mu.Unlock()
	q.some.Signal()
}

func (q *queue[T]) pop() (v T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) == 0 {
		if q.closed {
			return v, false
		}
		q.some.Wait()
	}
	v, q.items = q.items[0], q.items[1:]
	return v, true
}

type letter struct {
	to   int
	text []byte
	done chan<- int
}

var link = regexp.MustCompile(`https?://[a-z.]+/\S*`)

func work(q *queue[letter], sent *atomic.Int64) {
	for {
		l, ok := q.pop()
		if !ok {
			return
		}
		l.text = link.ReplaceAll(l.text, []byte("[link]"))
		sent.Add(int64(len(l.text)))
		l.done <- l.to
	}
}

func main() {
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	q := newQueue[letter]()
	var sent atomic.Int64
	for range 96 {
		go work(q, &sent)
	}
	for {
		n := 1 + rand.IntN(12)
		done := make(chan int, n)
		for i := range n {
			var b bytes.Buffer
			for range 20 {
				fmt.Fprintf(&b, "see http://news.example/%d or ask. ", rand.IntN(1000))
			}
			q.push(letter{i, b.Bytes(), done})
		}
		for range n {
			<-done
		}
		time.Sleep(rand.N(400 * time.Millisecond))
	}
}
