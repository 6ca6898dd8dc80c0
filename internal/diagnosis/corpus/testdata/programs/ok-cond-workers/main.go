// Ok-cond-workers runs jobs in order of their weight.
package main

import (
	"container/heap"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type jobs []int

func (j jobs) Len() int           { return len(j) }
func (j jobs) Less(a, b int) bool { return j[a] < j[b] }
func (j jobs) Swap(a, b int)      { j[a], j[b] = j[b], j[a] }
func (j *jobs) Push(v any)        { *j = append(*j, v.(int)) }
func (j *jobs) Pop() any {
	old := *j
	v := old[len(old)-1]
	*j = old[:len(old)-1]
	return v
}

type queue struct {
	mu    sync.Mutex
	ready *sync.Cond
	jobs  jobs
	done  int
}

func (q *queue) work() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for len(q.jobs) == 0 {
			q.ready.Wait()
		}
		heap.Pop(&q.jobs)
		q.done++
	}
}

func (q *queue) add(weight int) {
	q.mu.Lock()
	heap.Push(&q.jobs, weight)
	q.mu.Unlock()
	q.ready.Signal()
}

func main() {
	s := stage.Start()
	q := &queue{}
	q.ready = sync.NewCond(&q.mu)
	for range 64 {
		go q.work()
	}
	for range 200 {
		go func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for range tick.C {
				q.add(rand.IntN(100))
			}
		}()
	}
	s.Wait()
}
