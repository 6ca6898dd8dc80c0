package fleet

import (
	"context"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// metricsWatch is the one full watch of an instance that all who look at it
// share. Fields are guarded by Fleet.mu, except those that never change.
type metricsWatch struct {
	viewers map[*viewer]struct{}
	last    *ops.Sample
	err     error         // why it ended; set before done is closed
	done    chan struct{} // closed when the watch has returned
	stop    context.CancelFunc
}

// viewer holds the newest sample that its reader has not taken.
type viewer struct{ next chan ops.Sample }

// WatchMetrics calls fn with all metrics of an instance, once a second, until
// ctx ends or the instance's link is lost, and returns why; nil means that the
// process said goodbye. However many watch an instance, it is asked once. A slow
// fn misses samples and delays nobody else.
func (f *Fleet) WatchMetrics(ctx context.Context, id ops.InstanceID, fn func(ops.Sample)) error {
	v := &viewer{make(chan ops.Sample, 1)}
	m, w, err := f.look(id, v)
	if err != nil {
		return err
	}
	defer f.lookAway(m, w, v)
	for ctx.Err() == nil { // a slow fn always has a next sample waiting
		select {
		case s := <-v.next:
			fn(s)
		case <-w.done:
			if ops.KindOf(w.err) == ops.Cancelled && ctx.Err() == nil {
				return ops.Errorf(ops.Unavailable, "the connection to instance %s was lost: try again when it is back", id)
			}
			return w.err
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

func (f *Fleet) look(id ops.InstanceID, v *viewer) (*member, *metricsWatch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.members[id]
	if m == nil {
		return nil, nil, notFound(id)
	}
	if m.link == nil {
		return nil, nil, m.notConnected()
	}
	w := m.metrics
	if w == nil {
		ctx, stop := context.WithCancel(m.ctx)
		w = &metricsWatch{viewers: map[*viewer]struct{}{}, done: make(chan struct{}), stop: stop}
		m.metrics = w
		link := m.link
		// Its owner is the last viewer, who waits for it in lookAway.
		go func() {
			defer stop()
			err := link.Watch(ctx, time.Second, true, func(s ops.Sample) { f.show(w, s) })
			f.mu.Lock()
			w.err = err
			if m.metrics == w { // whoever looks next starts anew
				m.metrics = nil
			}
			f.mu.Unlock()
			close(w.done)
		}()
	}
	w.viewers[v] = struct{}{}
	if w.last != nil {
		v.next <- *w.last
	}
	return m, w, nil
}

func (f *Fleet) show(w *metricsWatch, s ops.Sample) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.last = &s
	for v := range w.viewers {
		select {
		case <-v.next: // it missed one
		default:
		}
		v.next <- s // never blocks: show alone sends, under f.mu
	}
}

func (f *Fleet) lookAway(m *member, w *metricsWatch, v *viewer) {
	f.mu.Lock()
	delete(w.viewers, v)
	last := len(w.viewers) == 0
	if last && m.metrics == w {
		m.metrics = nil
	}
	f.mu.Unlock()
	if last {
		w.stop()
		<-w.done
	}
}
