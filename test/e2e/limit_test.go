package e2e

import (
	"strings"
	"testing"
	"time"
)

// The gateway grows until it is killed at its memory limit, by the kernel where
// the demo could make a control group. Nobody asks it for anything, and yet its
// heap, its goroutines and the line that filled it are in the archive, and its
// successor says whom it follows and how that ended.
func TestScenario7LeavesItsLastWords(t *testing.T) {
	if testing.Short() {
		t.Skip("needs minutes; runs without -short")
	}
	s, err := startStackWith("7") // of its own: only then the gateway has a limit
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.demo.end(); err != nil {
			t.Errorf("the demo ended with %v and said\n%s", err, s.demo.said())
		}
	}()
	before := instances(t, s.center, "gateway-service")
	if len(before) != 1 {
		t.Fatalf("instances of gateway-service: %+v", before)
	}
	var next instance
	waitUpTo(t, 2*time.Minute, "another gateway has taken its place", func() bool {
		for _, i := range instances(t, s.center, "gateway-service") {
			if i.ID != before[0].ID && i.Predecessor != nil {
				next = i
				return true
			}
		}
		return false
	})
	if next.Predecessor.InstanceID != before[0].ID || next.Predecessor.Verdict != "likely OOM" {
		t.Errorf("the successor says it follows %+v, want %s, likely OOM", next.Predecessor, before[0].ID)
	}
	if said := s.demo.said(); !strings.Contains(said, "gateway-service ended by itself (signal: killed)") {
		t.Errorf("the gateway was not killed: the demo said\n%s", said)
	}

	id := ""
	waitUpTo(t, time.Minute, "its last words are in the archive", func() bool {
		if ids := caughtBy(t, s.center, "rule:last-words", "gateway-service"); len(ids) > 0 {
			id = ids[0]
		}
		return id != ""
	})
	c, _ := captured(t, s.center, id)
	if got := c.Targets[0].Instance.ID; got != before[0].ID {
		t.Errorf("the last words are of %s, want %s", got, before[0].ID)
	}
	e := export(t, s.center, c)
	if len(e.profile(t, "goroutine.pprof").Sample) == 0 {
		t.Error("it left no goroutines")
	}
	if held, _ := weigh(t, e.profile(t, "heap.pprof"), "inuse_space", function("gateway.(*ledger).keep")); held < 300<<20 {
		t.Errorf("its heap has %.0f MiB of the ledger, want most of 768", held/(1<<20))
	}
	line := sourceLine(t, "gateway/ledger.go", "ticket := make([]byte, ticketBytes)")
	v := diagnosis(t, s.center, id)
	for _, f := range v.Findings {
		t.Logf("diagnosed: %s %s %d %s %+v", f.Rule, f.Severity, f.Score, f.Title, f.Where)
		if w := f.Where; len(w) > 0 && strings.HasSuffix(w[0].Function, "gateway.(*ledger).keep") && w[0].Line == line && f.Severity != "notice" {
			return
		}
	}
	t.Errorf("no finding names gateway.(*ledger).keep at line %d first", line)
}
