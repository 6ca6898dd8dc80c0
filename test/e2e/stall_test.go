package e2e

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A stall of 60 ms is over before anybody can click: nobody asks for a capture
// here, and yet one arrives and names the query for which the room was held.
func TestScenario6StallIsCaughtByItsRule(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the figures of this test are Linux's")
	}
	s := game(t)
	s.until(t, "robot", "bets_total", atLeast(1))
	// The bets that an earlier scenario kept waiting are slow as well, and are none
	// of this one's. On a crowded machine they may be so for ever.
	for calm := time.Now().Add(30 * time.Second); s.figure(t, "game-service", "bet_p99_ms") > 30 && time.Now().Before(calm); {
		time.Sleep(200 * time.Millisecond)
	}
	s.fault(t, "6")
	rule := func(verb string) {
		if out, code := ops(t, s.center, "rules", verb, "stall"); code != exitDone {
			t.Fatalf("rules %s stall: exit code %d\n%s", verb, code, out)
		}
	}
	rule("enable")
	defer rule("disable")

	held := sourceLine(t, "game/audit.go", "kept, err := books.Staked(ctx, r.id)")
	query := sourceLine(t, "game/audit.go", "err = b.Pool.QueryRow(ctx, staked, room).Scan(&sum)")
	// On a crowded machine an ordinary bet can be the first that takes so long: its
	// capture answers for that bet, and the audit is in a later one.
	looked := map[string]bool{}
	for deadline := time.Now().Add(4 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		for _, id := range caughtBy(t, s.center, "rule:stall", "game-service") {
			if looked[id] {
				continue
			}
			looked[id] = true
			v := diagnosis(t, s.center, id)
			for _, f := range v.Findings {
				t.Logf("diagnosed: %s %s %d %s %+v", f.Rule, f.Severity, f.Score, f.Title, f.Where)
				for _, w := range f.Where {
					if strings.HasSuffix(w.Function, "game.(*Room).audit") && w.Line == held || strings.HasSuffix(w.Function, "game.SQLBooks.Staked") && w.Line == query {
						return
					}
				}
			}
		}
	}
	out, _ := ops(t, s.center, "rules", "history", "stall")
	t.Fatalf("none of %d captures names game.(*Room).audit at line %d or its query at line %d; the rule's history:\n%s", len(looked), held, query, out)
}

// caughtBy are the captures of a service that a rule asked for and that have ended
// well.
func caughtBy(t *testing.T, server, requester, service string) (ids []string) {
	t.Helper()
	out, code := ops(t, server, "captures", "--json")
	if code != exitDone {
		t.Fatalf("captures: exit code %d", code)
	}
	var answer struct {
		Captures []struct {
			capture
			Actor string
		}
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("captures: %v\n%s", err, out)
	}
	for _, c := range answer.Captures {
		if c.Actor == requester && c.State == "done" && len(c.Targets) == 1 && c.Targets[0].Instance.Service == service {
			ids = append(ids, c.ID)
		}
	}
	return ids
}
