// Poll-after-loop reads a stream, and gives up when it is quiet for a minute.
package main

import (
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type reading struct{ value int }

type stream struct {
	readings chan reading
	sum      int
}

func (s *stream) follow() {
	for {
		select { // want: timer-leak
		case r := <-s.readings:
			s.sum += r.value
		case <-time.After(time.Minute): // want: timer-leak
			return
		}
	}
}

func main() {
	st := stage.Start()
	s := &stream{readings: make(chan reading, 64)}
	go s.follow()
	go func() {
		for n := 0; ; n++ {
			for range 20 {
				s.readings <- reading{n}
			}
			time.Sleep(time.Millisecond)
		}
	}()
	st.Wait()
}
