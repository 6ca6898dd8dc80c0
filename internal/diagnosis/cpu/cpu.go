// Package cpu has the rules about what uses the processors, and who has to wait
// for them. It knows nothing of locks, pools or memory but what they cost here.
package cpu

import "github.com/opscenter/opscenter/internal/diagnosis/rule"

// Rules of this package.
func Rules() []rule.Rule {
	return []rule.Rule{
		passwordHashing, hotPath, gcPressure, schedulerLatency, throttled, limitThrash,
		goroutineChurn, timerStorm, syscallBlocked, threadExplosion,
	}
}
