// Ok-queue-longpoll takes jobs from a queue.
package main

import (
	"io"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type queue struct {
	http *http.Client
	base string
}

func (q *queue) receive() ([]byte, error) {
	resp, err := q.http.Get(q.base + "/receive?wait=5")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func (q *queue) consume(handle func([]byte)) {
	for {
		job, err := q.receive()
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		handle(job)
	}
}

func main() {
	stage.Child("queue", standin.Web(standin.Always(5*time.Second)))
	s := stage.Start()
	q := &queue{&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}, "http://" + s.Spawn("queue")}
	for i := range 16 {
		time.AfterFunc(time.Duration(i)*300*time.Millisecond, func() { q.consume(func([]byte) {}) })
	}
	s.Wait()
}
