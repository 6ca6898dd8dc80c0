package main

import (
	"slices"
	"sync"
	"time"

	"github.com/opscenter/opscenter/bench/internal/measure"
)

// recorder notes every request since the last reset.
type recorder struct {
	mu   sync.Mutex
	done []request
	cpu  []cpuAt
}

type request struct {
	end  int64 // Unix nanoseconds
	took time.Duration
}

type cpuAt struct {
	at   int64
	used time.Duration
}

func (r *recorder) request(began time.Time) {
	end := time.Now()
	r.mu.Lock()
	r.done = append(r.done, request{end.UnixNano(), end.Sub(began)})
	r.mu.Unlock()
}

func (r *recorder) reset() {
	r.mu.Lock()
	r.done = r.done[:0]
	r.cpu = r.cpu[:0]
	r.mu.Unlock()
}

// sampleCPU notes what this process has used, until the process ends.
func (r *recorder) sampleCPU() {
	for range time.Tick(10 * time.Millisecond) {
		u := measure.CPU()
		r.mu.Lock()
		r.cpu = append(r.cpu, cpuAt{time.Now().UnixNano(), u})
		r.mu.Unlock()
	}
}

// served is what was done in an interval.
type served struct {
	Requests int
	P99      time.Duration
	CPU      time.Duration
}

func (r *recorder) between(from, to int64) served {
	r.mu.Lock()
	defer r.mu.Unlock()
	var s served
	var took []time.Duration
	for _, q := range r.done {
		if q.end >= from && q.end < to {
			took = append(took, q.took)
		}
	}
	if s.Requests = len(took); s.Requests > 0 {
		slices.Sort(took)
		s.P99 = took[len(took)*99/100]
	}
	s.CPU = r.usedAt(to) - r.usedAt(from)
	return s
}

// usedAt interpolates; the caller holds mu.
func (r *recorder) usedAt(t int64) time.Duration {
	i, _ := slices.BinarySearchFunc(r.cpu, t, func(c cpuAt, t int64) int {
		switch {
		case c.at < t:
			return -1
		case c.at > t:
			return 1
		}
		return 0
	})
	switch {
	case len(r.cpu) == 0:
		return 0
	case i == 0:
		return r.cpu[0].used
	case i == len(r.cpu):
		return r.cpu[i-1].used
	}
	a, b := r.cpu[i-1], r.cpu[i]
	return a.used + time.Duration(float64(b.used-a.used)*float64(t-a.at)/float64(b.at-a.at))
}
