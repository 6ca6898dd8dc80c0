// Package changes tells many readers which things changed, without ever making
// the writer wait: a reader that is slow learns of a thing once, however often
// it changed meanwhile. It knows nothing of what the things are.
package changes

import (
	"context"
	"sync"
)

// Topic is a set of subscriptions. The zero value is ready.
type Topic[K comparable] struct {
	mu   sync.Mutex // guards subs
	subs map[*Subscription[K]]struct{}
}

// Subscription collects keys until its reader takes them.
type Subscription[K comparable] struct {
	topic *Topic[K]
	mu    sync.Mutex // guards keys
	keys  map[K]struct{}
	wake  chan struct{} // holds one token while keys is not empty
}

// Subscribe starts to collect. Close it when done.
func (t *Topic[K]) Subscribe() *Subscription[K] {
	s := &Subscription[K]{topic: t, keys: map[K]struct{}{}, wake: make(chan struct{}, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.subs == nil {
		t.subs = map[*Subscription[K]]struct{}{}
	}
	t.subs[s] = struct{}{}
	return s
}

// Publish marks keys as changed for every subscription. It never blocks.
func (t *Topic[K]) Publish(keys ...K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.subs {
		s.mu.Lock()
		for _, k := range keys {
			s.keys[k] = struct{}{}
		}
		s.mu.Unlock()
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Next waits until something changed, or ctx ends, and takes what changed since
// the last call, in no order.
func (s *Subscription[K]) Next(ctx context.Context) ([]K, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.wake:
	}
	return s.Take(), nil
}

// Ready has a token when Next would return at once. Receiving it takes it: call
// Take afterwards.
func (s *Subscription[K]) Ready() <-chan struct{} { return s.wake }

// Take returns what changed since the last call, which may be nothing.
func (s *Subscription[K]) Take() []K {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]K, 0, len(s.keys))
	for k := range s.keys {
		out = append(out, k)
	}
	clear(s.keys)
	return out
}

// Close ends the subscription.
func (s *Subscription[K]) Close() {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	delete(s.topic.subs, s)
}
