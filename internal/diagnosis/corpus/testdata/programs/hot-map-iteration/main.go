// Hot-map-iteration finds the sessions that have expired.
package main

import (
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type session struct {
	lastSeen int64
	player   int
}

type sessions struct {
	byID map[uint64]*session
}

func (s *sessions) expired(before int64) int {
	n := 0
	for _, ses := range s.byID { // want: cpu-hot-path
		if ses.lastSeen < before { // want: cpu-hot-path
			n++
		}
	}
	return n
}

func main() {
	st := stage.Start()
	for range 2 { // shards
		s := &sessions{byID: map[uint64]*session{}}
		for i := range 200_000 {
			s.byID[uint64(i)*0x9e3779b97f4a7c15] = &session{int64(i), i}
		}
		go func() {
			for n := int64(0); ; n++ {
				s.expired(n % 100)
				time.Sleep(200 * time.Microsecond)
			}
		}()
	}
	st.Wait()
}
