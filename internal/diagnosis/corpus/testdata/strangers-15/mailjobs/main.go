// mailjobs delivers in-game mail and push notifications in the background.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

type Job interface {
	Run(ctx context.Context) error
}

type JobFunc func(ctx context.Context) error

func (f JobFunc) Run(ctx context.Context) error { return f(ctx) }

var errFull = errors.New("queue full")

// Queue hands jobs to a fixed set of workers.
type Queue[J Job] struct {
	name string
	jobs chan J
	done atomic.Int64
	wg   sync.WaitGroup
}

func NewQueue[J Job](ctx context.Context, name string, workers, depth int) *Queue[J] {
	q := &Queue[J]{name: name, jobs: make(chan J, depth)}
	for range workers {
		q.wg.Go(func() { q.work(ctx) })
	}
	return q
}

func (q *Queue[J]) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-q.jobs:
			jctx, cancel := context.WithTimeout(ctx, time.Second)
			if err := j.Run(jctx); err != nil {
				log.Printf("%s: %v", q.name, err)
			}
			cancel()
			q.done.Add(1)
		}
	}
}

func (q *Queue[J]) Offer(j J) error {
	select {
	case q.jobs <- j:
		return nil
	default:
		return errFull
	}
}

// outbox wakes its sender when there is something to send.
type outbox struct {
	mu      sync.Mutex
	filled  *sync.Cond
	pending []string
	sent    int
}

func newOutbox() *outbox {
	o := &outbox{}
	o.filled = sync.NewCond(&o.mu)
	return o
}

func (o *outbox) add(line string) {
	o.mu.Lock()
	o.pending = append(o.pending, line)
	o.mu.Unlock()
	o.filled.Signal()
}

func (o *outbox) sendLoop() {
	for {
		o.mu.Lock()
		for len(o.pending) == 0 {
			o.filled.Wait()
		}
		batch := o.pending
		o.pending = nil
		o.sent += len(batch)
		o.mu.Unlock()
		_ = len(batch)
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx := context.Background()
	queues := map[string]*Queue[JobFunc]{}
	for _, name := range []string{"mail", "push", "gift", "refund", "report"} {
		queues[name] = NewQueue[JobFunc](ctx, name, 60, 256)
	}
	boxes := make([]*outbox, 40)
	for i := range boxes {
		boxes[i] = newOutbox()
		go boxes[i].sendLoop()
	}
	go func() { // nothing to do for the reaper yet
		for range time.Tick(time.Hour) {
			log.Print("reap")
		}
	}()

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		log.Fatal(http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			box := boxes[rand.IntN(len(boxes))]
			to := r.FormValue("to")
			err := queues["mail"].Offer(func(context.Context) error {
				box.add("mail to " + to)
				return nil
			})
			if err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			w.WriteHeader(http.StatusAccepted)
		})))
	}()
	for range time.Tick(25 * time.Millisecond) {
		resp, err := http.Get(fmt.Sprintf("http://%s/?to=p%d", ln.Addr(), rand.IntN(5000)))
		if err != nil {
			log.Print(err)
			continue
		}
		resp.Body.Close()
	}
}
