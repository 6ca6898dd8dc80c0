package agent

import (
	"database/sql"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// Pool is a connection pool whose state the agent may ask for: about every five
// seconds, and every second during a capture. It should answer at once.
type Pool interface {
	PoolStats() PoolStats
}

// PoolStats is the state of a pool.
type PoolStats struct {
	// Kind of pool, such as "pgxpool".
	Kind string
	// Remote is where it leads, host:port; empty = unknown.
	Remote string
	// Connections: the limit (0 = none), and how many there are now.
	MaxOpen, Open, InUse, Idle int64
	// Waiting callers now; -1 = the pool does not say.
	Waiting int64
	// Totals since the pool was made: how often, and how long, callers waited.
	WaitCount    int64
	WaitDuration time.Duration
}

// PoolFunc makes a Pool of a function.
type PoolFunc func() PoolStats

// PoolStats implements Pool.
func (f PoolFunc) PoolStats() PoolStats { return f() }

// SQLPool makes a Pool of a database/sql handle. remote is the database's
// host:port, which the handle does not tell; empty = unknown.
func SQLPool(db *sql.DB, remote string) Pool {
	return PoolFunc(func() PoolStats {
		s := db.Stats()
		return PoolStats{
			Kind:         "database/sql",
			Remote:       remote,
			MaxOpen:      int64(s.MaxOpenConnections),
			Open:         int64(s.OpenConnections),
			InUse:        int64(s.InUse),
			Idle:         int64(s.Idle),
			Waiting:      -1,
			WaitCount:    s.WaitCount,
			WaitDuration: s.WaitDuration,
		}
	})
}

// AddPool lets the agent report the pool under that name, instead of the one it
// knew by it. A nil pool removes the name.
func (a *Agent) AddPool(name string, p Pool) {
	if a == nil || name == "" {
		return
	}
	a.pools.add(name, p)
}

const (
	maxPools     = 64
	maxPoolName  = 128
	poolPatience = 250 * time.Millisecond
)

// poolRegistry asks pools, which are the service's code: one may panic or hang
// (a deadlocked pool is worth diagnosing) without harm to the answer of others.
type poolRegistry struct {
	mu    sync.Mutex
	pools map[string]*poolEntry
}

type poolEntry struct {
	name string
	pool Pool

	mu   sync.Mutex
	busy bool // a call is in progress, perhaps for ever
	last PoolStats
	good bool // last was ever filled
}

func (r *poolRegistry) add(name string, p Pool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name = clip(name, maxPoolName)
	if p == nil {
		delete(r.pools, name)
		return
	}
	if r.pools == nil {
		r.pools = map[string]*poolEntry{}
	}
	if _, known := r.pools[name]; known || len(r.pools) < maxPools {
		r.pools[name] = &poolEntry{name: name, pool: p}
	}
}

// read asks every pool at once and returns what was answered in time, by name;
// a pool that hangs shows its last state.
func (r *poolRegistry) read() []namedPool {
	r.mu.Lock()
	entries := make([]*poolEntry, 0, len(r.pools))
	for _, e := range r.pools {
		entries = append(entries, e)
	}
	r.mu.Unlock()
	if len(entries) == 0 {
		return nil
	}
	var asked sync.WaitGroup
	for _, e := range entries {
		e.mu.Lock()
		start := !e.busy
		e.busy = true
		e.mu.Unlock()
		if start {
			// Nobody waits for this one beyond the patience: a pool that hangs for
			// ever keeps one goroutine.
			asked.Go(e.ask)
		}
	}
	done := make(chan struct{})
	go func() {
		asked.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(poolPatience):
	}
	var out []namedPool
	for _, e := range entries {
		e.mu.Lock()
		if e.good {
			out = append(out, namedPool{e.name, e.last})
		}
		e.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b namedPool) int { return strings.Compare(a.name, b.name) })
	return out
}

func (e *poolEntry) ask() {
	var s PoolStats
	ok := func() (ok bool) {
		defer func() { ok = recover() == nil }()
		s = e.pool.PoolStats()
		return true
	}()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.busy = false
	if ok {
		s.Kind, s.Remote = clip(s.Kind, maxPoolName), clip(s.Remote, maxPoolName)
		e.last, e.good = s, true
	}
}

type namedPool struct {
	name string
	PoolStats
}

func (p namedPool) proto() *agentv1.PoolStats {
	return &agentv1.PoolStats{
		Name: p.name, Kind: p.Kind, Remote: p.Remote,
		MaxOpen: p.MaxOpen, Open: p.Open, InUse: p.InUse, Idle: p.Idle,
		Waiting: p.Waiting, WaitCount: p.WaitCount, WaitDuration: durationpb.New(p.WaitDuration),
	}
}

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "?")
}
