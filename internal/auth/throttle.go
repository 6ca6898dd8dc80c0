package auth

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// The bounds on guessing. The first few failures cost nothing, for people
// mistype; then each doubles the wait. With an hour between 300 s steps one
// address gets about 300 guesses a day at one account.
const (
	freeFailures = 5
	firstWait    = time.Second
	longestWait  = 5 * time.Minute
	// An account that is attacked from everywhere is slowed down too, but never by
	// more than this: its owner must get in. Browsers that its owner has used
	// before are not slowed down at all.
	longestAccountWait = 15 * time.Second
	freeAccount        = 20
	// forgiven is after how long without a failure it is as if there had been none.
	forgiven = time.Hour
	// throttled bounds the memory; the longest unused goes first.
	throttled = 20_000
)

// throttle slows down who guesses passwords.
type throttle struct {
	now func() time.Time

	mu   sync.Mutex // guards what follows
	rows map[string]*list.Element
	used *list.List // of *failures, most recent first
}

type failures struct {
	key   string
	n     int
	until time.Time // nobody tries before
	last  time.Time
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, rows: map[string]*list.Element{}, used: list.New()}
}

// tried is one attempt: where from, at whose account, and whether with a browser
// that has been in that account before.
type tried struct {
	address, account string
	known            bool
}

// limit is a row that an attempt counts in.
type limit struct {
	key     string
	free    int
	longest time.Duration
}

func (t tried) limits() []limit {
	at := network(t.address)
	if t.known {
		return []limit{{"known " + t.account, freeFailures, longestWait}}
	}
	return []limit{{"from " + at, freeFailures, longestWait}, {"at " + t.account, freeAccount, longestAccountWait}}
}

// wait returns how long this attempt has to wait; 0 = it may be made now. An
// attempt that may be made counts as failed until succeeded is called: many at
// the same time get no more tries than one after the other.
func (t *throttle) wait(a tried) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	var longest time.Duration
	for _, l := range a.limits() {
		if e, ok := t.rows[l.key]; ok {
			longest = max(longest, e.Value.(*failures).until.Sub(now))
		}
	}
	if longest > 0 {
		return longest
	}
	for _, l := range a.limits() {
		f := t.row(l.key, now)
		f.n++
		f.last = now
		if over := f.n - l.free; over >= 0 {
			f.until = now.Add(min(firstWait<<min(over, 20), l.longest))
		}
	}
	return 0
}

// succeeded takes the attempt back.
func (t *throttle) succeeded(a tried) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range a.limits() {
		e, ok := t.rows[l.key]
		if !ok {
			continue
		}
		// An address is not forgiven for what it tried at other accounts.
		if f := e.Value.(*failures); l.longest == longestWait && !a.known && f.n > 1 {
			f.n--
			f.until = time.Time{}
			continue
		}
		t.used.Remove(e)
		delete(t.rows, l.key)
	}
}

// row returns the row of a key, made anew if there was none or it is forgiven.
func (t *throttle) row(key string, now time.Time) *failures {
	if e, ok := t.rows[key]; ok {
		t.used.MoveToFront(e)
		f := e.Value.(*failures)
		if now.Sub(f.last) > forgiven {
			*f = failures{key: key}
		}
		return f
	}
	if t.used.Len() >= throttled {
		oldest := t.used.Back()
		delete(t.rows, oldest.Value.(*failures).key)
		t.used.Remove(oldest)
	}
	f := &failures{key: key}
	t.rows[key] = t.used.PushFront(f)
	return f
}

// network is the address, or for IPv6 the /64 that one subscriber has to choose
// addresses from.
func network(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
