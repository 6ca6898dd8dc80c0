package auth

import (
	"cmp"
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/opscenter/opscenter/internal/ops"
)

// Limits bound what one caller may ask for. The page itself, scrolling through a
// timeline, asks for some dozens of tiles a second.
type Limits struct {
	// PerSecond is how many requests a caller may make on average (0 = 100), Burst
	// how many at once after a rest (0 = 400).
	PerSecond float64 `yaml:"per_second"`
	Burst     int     `yaml:"burst"`
	// Concurrent is how many of a caller's requests may run at once, streams
	// included (0 = 128).
	Concurrent int `yaml:"concurrent"`
}

// Validate says what is wrong with a limit, beginning with its key.
func (l *Limits) Validate() error {
	switch {
	case l.PerSecond < 0:
		return invalid("per_second: %g is less than nothing: use 1 or more, or 0 for 100", l.PerSecond)
	case l.Burst < 0:
		return invalid("burst: %d is less than nothing: use 1 or more, or 0 for 400", l.Burst)
	case l.Concurrent < 0:
		return invalid("concurrent: %d is less than nothing: use 1 or more, or 0 for 128", l.Concurrent)
	}
	return nil
}

// callersKept bounds the memory: of more callers than that the longest silent
// one without a running request is forgotten.
const callersKept = 10_000

// Limiter counts what callers ask for. It is safe for concurrent use.
type Limiter struct {
	limits Limits
	now    func() time.Time

	mu   sync.Mutex // guards what follows
	rows map[string]*list.Element
	used *list.List // of *caller, most recent first
}

type caller struct {
	name    string
	rate    *rate.Limiter
	running int
}

// NewLimiter returns a limiter. Now nil = time.Now.
func NewLimiter(l Limits, now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	l = Limits{cmp.Or(l.PerSecond, 100), cmp.Or(l.Burst, 400), cmp.Or(l.Concurrent, 128)}
	return &Limiter{limits: l, now: now, rows: map[string]*list.Element{}, used: list.New()}
}

// Enter begins a request of a caller; done ends it. It is a RetryError, of the
// kind Exhausted, when the caller asks too much.
func (l *Limiter) Enter(name string) (done func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.caller(name)
	if c.running >= l.limits.Concurrent {
		return nil, &RetryError{After: time.Second, Err: ops.Errorf(ops.Exhausted, "%d requests of %s are running, which is the most: wait until one ends", c.running, name)}
	}
	now := l.now()
	r := c.rate.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return nil, &RetryError{After: wait, Err: ops.Errorf(ops.Exhausted, "%s asks more than %g times a second: ask less often", name, l.limits.PerSecond)}
	}
	c.running++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.running--
	}), nil
}

func (l *Limiter) caller(name string) *caller {
	if e, ok := l.rows[name]; ok {
		l.used.MoveToFront(e)
		return e.Value.(*caller)
	}
	for e := l.used.Back(); e != nil && l.used.Len() >= callersKept; {
		before := e.Prev()
		if c := e.Value.(*caller); c.running == 0 {
			delete(l.rows, c.name)
			l.used.Remove(e)
		}
		e = before
	}
	c := &caller{name: name, rate: rate.NewLimiter(rate.Limit(l.limits.PerSecond), l.limits.Burst)}
	l.rows[name] = l.used.PushFront(c)
	return c
}
