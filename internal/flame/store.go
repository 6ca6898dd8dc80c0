package flame

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/profile"
)

// decodesAtOnce bounds the memory of profiles that are being read, of which each
// may take what its limits allow.
const decodesAtOnce = 2

// largeBytes is a profile whose garbage matters.
const largeBytes = 64 << 20

// store keeps the profiles that were asked for last.
type store struct {
	room  int64
	idle  time.Duration
	turns chan struct{}

	mu   sync.Mutex // guards what follows, and every entry until it is ready
	all  map[string]*entry
	used int64 // the sizes of those that are ready
}

// entry is a profile that is there, or that its first caller is reading.
type entry struct {
	ready   chan struct{} // closed when profile or err is set
	profile *profile.Profile
	err     error
	size    int64
	at      time.Time
}

func newStore(room int64, idle time.Duration) *store {
	return &store{room: room, idle: idle, turns: make(chan struct{}, decodesAtOnce), all: map[string]*entry{}}
}

// get returns the profile of a key, which means the same bytes for ever. Of
// several callers one reads and the others wait for it, or until their ctx ends;
// if the reading one leaves, another takes its place.
func (s *store) get(ctx context.Context, key string, read func(context.Context) (*profile.Profile, error)) (*profile.Profile, error) {
	for {
		s.mu.Lock()
		e := s.all[key]
		if e == nil {
			e = &entry{ready: make(chan struct{})}
			s.all[key] = e
			s.mu.Unlock()
			s.fill(ctx, key, e, read)
			return e.profile, e.err
		}
		e.at = time.Now()
		s.mu.Unlock()
		select {
		case <-e.ready:
			if e.err == nil {
				return e.profile, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// It failed, perhaps only because its caller left: this one tries itself.
	}
}

func (s *store) fill(ctx context.Context, key string, e *entry, read func(context.Context) (*profile.Profile, error)) {
	var p *profile.Profile
	var err error
	select {
	case s.turns <- struct{}{}:
		p, err = read(ctx)
		<-s.turns
	case <-ctx.Done():
		err = ctx.Err()
	}
	size := int64(0)
	if err == nil {
		// Decoding leaves as much garbage as there is profile. Before a large one is
		// worked on, that is collected: of 50 MB gzipped the process then peaks at
		// 0.7 GB, not 1.2, for 0.1 s.
		if size = sizeOf(p); size > largeBytes {
			runtime.GC()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.profile, e.err, e.at = p, err, time.Now()
	close(e.ready)
	if err != nil {
		e.profile = nil
		delete(s.all, key)
		return
	}
	e.size = size
	s.used += e.size
	s.shrink(s.room)
}

// shrink drops the least recently used until what is left has room. The caller
// holds mu.
func (s *store) shrink(room int64) {
	for s.used > room {
		oldest := ""
		for key, e := range s.all {
			if e.profile != nil && (oldest == "" || e.at.Before(s.all[oldest].at)) {
				oldest = key
			}
		}
		s.drop(oldest)
	}
}

func (s *store) drop(key string) {
	s.used -= s.all[key].size
	delete(s.all, key)
}

func (s *store) run(ctx context.Context) error {
	tick := time.NewTicker(s.idle / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.mu.Lock()
			for key, e := range s.all {
				if e.profile != nil && now.Sub(e.at) > s.idle {
					s.drop(key)
				}
			}
			s.mu.Unlock()
		}
	}
}

// sizeOf estimates what a profile takes: the sizes are those of its columns.
func sizeOf(p *profile.Profile) int64 {
	n := int64(p.Samples())*int64(len(p.Types)*8+12) + int64(len(p.Functions))*24 + int64(len(p.Locations))*24 + int64(len(p.Lines))*24
	for i := range p.Samples() {
		n += int64(len(p.Stack(i)))*4 + int64(len(p.Labels(i)))*40
	}
	for _, s := range p.Strings {
		n += int64(len(s)) + 16
	}
	return n
}
