package chassis

import (
	"slices"
	"sync"
	"time"
)

// Latency keeps the durations of the last few seconds. The zero value is ready.
type Latency struct {
	mu   sync.Mutex // guards ring and next
	ring []timed
	next int
}

type timed struct {
	at   time.Time
	took time.Duration
}

// latencyWindow is short so that a switched scenario shows soon; latencySamples
// holds it at the robot's busiest rate.
const (
	latencyWindow  = 10 * time.Second
	latencySamples = 1 << 13
)

// Since notes the time since start.
func (l *Latency) Since(start time.Time) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := timed{now, now.Sub(start)}
	if len(l.ring) < latencySamples {
		l.ring = append(l.ring, s)
		return
	}
	l.ring[l.next] = s
	l.next = (l.next + 1) % latencySamples
}

// Into writes name_p50_ms, name_p99_ms and name_count of the window into m.
func (l *Latency) Into(m Figures, name string) {
	cutoff := time.Now().Add(-latencyWindow)
	l.mu.Lock()
	took := make([]time.Duration, 0, len(l.ring))
	for _, s := range l.ring {
		if s.at.After(cutoff) {
			took = append(took, s.took)
		}
	}
	l.mu.Unlock()
	slices.Sort(took)
	m[name+"_count"] = float64(len(took))
	if len(took) == 0 {
		return
	}
	m[name+"_p50_ms"] = took[len(took)/2].Seconds() * 1000
	m[name+"_p99_ms"] = took[len(took)*99/100].Seconds() * 1000
}
