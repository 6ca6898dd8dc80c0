// Package waits holds the rules for goroutines that wait for others: for a
// downstream's answer, for a connection out of a pool, for a receiver of what
// they send. It tells waiting that costs somebody something from being idle. It
// knows nothing of locks, of what is computed, or of what is kept in memory.
package waits

import "github.com/opscenter/opscenter/internal/diagnosis/rule"

// Rules are this family's rules.
func Rules() []rule.Rule {
	return []rule.Rule{downstreamWait(), poolExhausted(), poolLeaked(), channelBackpressure(), slowCall()}
}
