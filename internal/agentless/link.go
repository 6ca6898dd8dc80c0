package agentless

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Link is the way to one target.
type Link struct {
	host *host
	log  *slog.Logger
	// What introduce learned; they do not change afterwards.
	agents        []ops.InstanceID // boot ids that the process shows
	standardIndex bool             // the index page counts goroutines
	servesVars    bool             // expvar has memstats
	instance      ops.Instance

	mu      sync.Mutex // guards windows
	windows map[ops.CaptureID]*window
}

var _ ops.Link = (*Link)(nil)

// Close gives idle connections up.
func (l *Link) Close() { l.host.client.CloseIdleConnections() }

// sample is what the endpoints say of the process at a moment.
type sample struct {
	at         time.Time
	goroutines int64 // -1 = unknown
	counts     map[string]int64
	mem        *memstats // nil = unknown
}

// sample asks the cheap endpoints: the index page, whose counts cost next to
// nothing, and expvar where it is served. An answer of any kind is a sign of life.
func (l *Link) sample(ctx context.Context) (s sample, err error) {
	s = sample{at: time.Now(), goroutines: -1}
	s.counts, err = l.host.index(ctx)
	var status *statusError
	if err != nil && !errors.As(err, &status) {
		return s, err
	}
	if n, ok := s.counts["goroutine"]; ok {
		s.goroutines = n
	}
	if l.servesVars {
		s.mem, _ = l.host.memstats(ctx) // missing is not dead
	}
	return s, nil
}

// Watch polls. Of the heartbeat's numbers it knows the goroutines and, where
// expvar is served, those of the heap; LiveHeapBytes then counts garbage that is
// not collected yet as well.
func (l *Link) Watch(ctx context.Context, interval time.Duration, full bool, fn func(ops.Sample)) error {
	interval = max(interval, time.Second)
	first := interval
	if !full { // thousands that were found in one instant are not asked in one instant ever after
		first += rand.N(interval)
	}
	next := time.NewTimer(first)
	defer next.Stop()
	var dead deathWatch
	for {
		s, err := l.sample(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			dead = deathWatch{}
			fn(l.heartbeat(s, full))
		default:
			if lost := l.judge(&dead, err); lost != nil {
				return lost
			}
			// Sooner than usual: a refused connection is judged by the second one.
			if !wait(ctx, min(interval, time.Second)) {
				return ctx.Err()
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next.C:
			next.Reset(interval)
		}
	}
}

// wait reports whether d has passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// deathWatch counts failures in a row.
type deathWatch struct{ refused int }

// judge decides whether a target whose poll failed is lost. A target that
// refuses connections twice in a row is; one that is silent only after the
// link's patience, as a busy process may be.
func (l *Link) judge(d *deathWatch, err error) error {
	if errors.Is(err, errSilent) || errors.Is(err, errSlow) {
		if silent := time.Since(time.Unix(0, l.host.sign.Load())); silent < l.host.patience {
			return nil
		}
		return ops.Errorf(ops.Unavailable, "%s has not answered for %v", l.host.address, l.host.patience)
	}
	if d.refused++; d.refused < 2 {
		return nil
	}
	return l.silent(err)
}

func (l *Link) heartbeat(s sample, full bool) ops.Sample {
	out := ops.Sample{Heartbeat: ops.Heartbeat{At: s.at, Goroutines: max(0, s.goroutines), Threads: s.counts["threadcreate"]}}
	if s.mem != nil {
		out.Heartbeat.LiveHeapBytes = int64(s.mem.HeapAlloc)
		out.Heartbeat.HeapObjects = int64(s.mem.HeapObjects)
		out.Heartbeat.GCCycles = int64(s.mem.NumGC)
	}
	if full {
		for _, m := range s.metrics() {
			out.Metrics = append(out.Metrics, ops.Metric{Name: m.name, Value: m.value})
		}
	}
	return out
}

type metric struct {
	name  string
	value float64
}

// metrics names what is known as runtime/metrics does.
func (s sample) metrics() (out []metric) {
	if s.goroutines >= 0 {
		out = append(out, metric{"/sched/goroutines:goroutines", float64(s.goroutines)})
	}
	if m := s.mem; m != nil {
		out = append(out,
			metric{"/gc/cycles/forced:gc-cycles", float64(m.NumForcedGC)},
			metric{"/gc/cycles/total:gc-cycles", float64(m.NumGC)},
			metric{"/gc/heap/allocs:bytes", float64(m.TotalAlloc)},
			metric{"/gc/heap/allocs:objects", float64(m.Mallocs)},
			metric{"/gc/heap/frees:objects", float64(m.Frees)},
			metric{"/gc/heap/goal:bytes", float64(m.NextGC)},
			metric{"/gc/heap/objects:objects", float64(m.HeapObjects)},
			metric{"/memory/classes/heap/free:bytes", float64(m.HeapIdle - min(m.HeapIdle, m.HeapReleased))},
			metric{"/memory/classes/heap/objects:bytes", float64(m.HeapAlloc)},
			metric{"/memory/classes/heap/released:bytes", float64(m.HeapReleased)},
			metric{"/memory/classes/heap/stacks:bytes", float64(m.StackInuse)},
			metric{"/memory/classes/total:bytes", float64(m.Sys)},
		)
	}
	return out
}

// Stop ends a window early. What runs on the target cannot be cut short without
// losing it, so that the CPU segment in flight (at most ten seconds) is waited for.
func (l *Link) Stop(_ context.Context, id ops.CaptureID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.windows[id]
	if w == nil {
		return ops.Errorf(ops.NotFound, "no capture %s runs on %s", id, l.host.address)
	}
	w.requestStop()
	return nil
}

// Collect runs one window over the endpoints.
func (l *Link) Collect(ctx context.Context, id ops.CaptureID, spec ops.Spec, sink ops.Sink) (ops.CollectSummary, error) {
	if spec.Last > 0 {
		return ops.CollectSummary{}, ops.Errorf(ops.Conflict, "%s has no agent, so nobody recorded what is over: capture a window, or let the service import the agent", l.host.address)
	}
	w := newWindow(l, id, spec, sink)
	l.mu.Lock()
	_, taken := l.windows[id]
	if !taken {
		l.windows[id] = w
	}
	l.mu.Unlock()
	if taken {
		return ops.CollectSummary{}, ops.Errorf(ops.Conflict, "capture %s already runs on %s", id, l.host.address)
	}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.windows, id)
	}()
	return w.collect(ctx)
}
