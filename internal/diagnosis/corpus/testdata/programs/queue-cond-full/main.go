// Queue-cond-full keeps what was bet, in the order in which it came.
package main

import (
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type queue[T any] struct {
	mu             sync.Mutex
	room, anything *sync.Cond
	items          []T
	most           int
}

func newQueue[T any](most int) *queue[T] {
	q := &queue[T]{most: most}
	q.room, q.anything = sync.NewCond(&q.mu), sync.NewCond(&q.mu)
	return q
}

func (q *queue[T]) put(v T) {
	q.mu.Lock()
	for len(q.items) == q.most {
		q.room.Wait() // want: channel-backpressure
	}
	q.items = append(q.items, v)
	q.mu.Unlock()
	q.anything.Signal()
}

func (q *queue[T]) take() T {
	q.mu.Lock()
	for len(q.items) == 0 {
		q.anything.Wait()
	}
	v := q.items[0]
	q.items = q.items[1:]
	q.mu.Unlock()
	q.room.Signal()
	return v
}

type keeper struct {
	queue *queue[string]
	last  string
}

func (k *keeper) run() {
	for {
		k.write(k.queue.take())
	}
}

func (k *keeper) write(s string) {
	time.Sleep(6 * time.Millisecond) // want: channel-backpressure
	k.last = s
}

func main() {
	s := stage.Start()
	k := &keeper{queue: newQueue[string](32)}
	go k.run()
	mux := http.NewServeMux()
	mux.HandleFunc("/bet", func(_ http.ResponseWriter, r *http.Request) { k.queue.put(r.RemoteAddr) })
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/bet", Users: 80, Pause: 5 * time.Millisecond})
	s.Wait()
}
