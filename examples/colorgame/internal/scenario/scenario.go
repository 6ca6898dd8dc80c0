// Package scenario names the seven troubles of the Color Game and keeps the
// switches that turn them on and off while the game runs. It knows nothing of
// the game: each part of the game asks its own question and is wired to a switch.
package scenario

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Scenario is one of the seven troubles.
type Scenario int

// The scenarios, by the numbers people know them under.
const (
	LoginStorm      Scenario = 1 + iota // user-service forgets sessions: everyone logs in again
	SlowRecords                         // a report holds the row that every record updates
	SlowConsumers                       // far players read their sockets too slowly
	LockAcrossQuery                     // the room is locked while a limit is queried
	SessionLeak                         // sessions wait for players who never resume them
	BriefStall                          // an audit holds each room over a query, once a minute
	Hoarding                            // every announcement is kept for disputes, up to the memory limit
)

// All lists the scenarios in order.
func All() []Scenario {
	return []Scenario{LoginStorm, SlowRecords, SlowConsumers, LockAcrossQuery, SessionLeak, BriefStall, Hoarding}
}

// Parse reads a scenario's number.
func Parse(s string) (Scenario, error) {
	for _, sc := range All() {
		if s == fmt.Sprint(int(sc)) {
			return sc, nil
		}
	}
	return 0, fmt.Errorf("unknown scenario %q: use 1 to 7", s)
}

// Symptom says what players and operators notice.
func (s Scenario) Symptom() string {
	switch s {
	case LoginStorm:
		return "logins take seconds while the database is idle"
	case SlowRecords:
		return "records are written slowly while the CPU is idle"
	case SlowConsumers:
		return "lobby announcements arrive late for everybody"
	case LockAcrossQuery:
		return "bets stall now and then when many bet at once"
	case SessionLeak:
		return "memory climbs in steps until the process is killed"
	case BriefStall:
		return "bets stall for some 50 ms once a minute"
	case Hoarding:
		return "all players are thrown out: the gateway was killed"
	}
	return "unknown"
}

// Service is where the trouble shows: the one to capture.
func (s Scenario) Service() string {
	switch s {
	case LoginStorm:
		return "user-service"
	case SlowRecords:
		return "game-record-service"
	case SlowConsumers, SessionLeak, Hoarding:
		return "gateway-service"
	case LockAcrossQuery, BriefStall:
		return "game-service"
	}
	return ""
}

// NeedsDatabase reports whether the trouble is with Postgres.
func (s Scenario) NeedsDatabase() bool {
	return s == SlowRecords || s == LockAcrossQuery || s == BriefStall
}

// Switches is the state of every scenario in one process. The zero value is all
// off and ready to use.
type Switches struct {
	on [Hoarding + 1]atomic.Bool

	mu       sync.Mutex // guards watchers, and orders calls to them
	watchers []func(Scenario, bool)
}

// On reports whether a scenario is switched on.
func (s *Switches) On(sc Scenario) bool { return s.on[sc].Load() }

// Set switches a scenario and tells the watchers if that changed something.
func (s *Switches) Set(sc Scenario, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on[sc].Swap(on) == on {
		return
	}
	for _, fn := range s.watchers {
		fn(sc, on)
	}
}

// Watch calls fn for every later change. fn must not block.
func (s *Switches) Watch(fn func(Scenario, bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = append(s.watchers, fn)
}
