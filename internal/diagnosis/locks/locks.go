// Package locks has the rules about locks: who waits for them, who holds them
// meanwhile, and what the holder does. It joins what a trace, the mutex and block
// profiles and the goroutine snapshots each say of a lock, of which none knows
// the lock itself: a lock is the places that lock it and those that unlock it.
// It knows no rule of another package.
package locks

import (
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/ops"
)

// The rules' names, which never change.
const (
	HeldAcrossIO  ops.RuleID = "lock-held-across-io"
	Contention    ops.RuleID = "lock-contention"
	LogContention ops.RuleID = "log-contention"
	Deadlock      ops.RuleID = "deadlock"
)

const (
	// slowWait is what a busy and healthy lock keeps people waiting less than. The
	// trace counts the waits that are longer.
	slowWait = time.Millisecond
	// waiters75 and wait75 are where a score is 75: three goroutines that wait at
	// any moment, for four milliseconds each. The lower of the two scores counts:
	// neither a crowd that waits for microseconds nor a single long wait is an
	// incident. Four milliseconds are a quarter of a frame of 60 a second.
	waiters75 = 3.0
	wait75    = 4 * time.Millisecond
	// standing is how many goroutines wait on average, each for a millisecond or more
	// where that is known, at a lock that is never free: for so many to queue, those
	// who come at random must keep it busy for nine tenths of the time.
	standing = 4.0
	// lifelongWaits is what waits have to sum up to over a process's life to be worth
	// a notice.
	lifelongWaits = 10 * time.Second
	// mostly is the share of the time that a lock was held from which on what the
	// holder did is what the lock is held for. The planted shapes of I/O under a
	// lock have 0.84 to 0.99, those without any 0.
	mostly = 0.5
	// partly is the least of it where processors are short: below that the same waits
	// would be there without the lock (see fair).
	partly = 0.25
	// sure is how many holds with both ends in the trace it takes to speak of their
	// average, and surely the share of them that has to show the same.
	sure   = 20
	surely = 0.9
)

// Rules are those of this package.
func Rules() []rule.Rule {
	return []rule.Rule{heldAcrossIO, contention, logContention, deadlocked}
}
