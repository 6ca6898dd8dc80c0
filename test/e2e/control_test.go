package e2e

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// remedy runs a control on the one instance of a service of the game.
func (s *stack) remedy(t *testing.T, service, control string, args ...string) {
	t.Helper()
	out, code := ops(t, s.center, append([]string{"control", service, control, "--project", "color-game", "--reason", "the trouble is known", "--yes"}, args...)...)
	if code != exitDone {
		t.Fatalf("%s %v: exit code %d\n%s", control, args, code, out)
	}
	t.Logf("%s %v answers %s", control, args, strings.Join(strings.Fields(out), " "))
}

// kickSlow lets the gateway drop who reads too slowly while the trouble goes on,
// and shows the effect in a second capture.
func (s *stack) kickSlow(t *testing.T, before evidence, beforeSeconds float64) {
	t.Helper()
	s.remedy(t, "gateway-service", "kick-slow", "for=1m")
	defer s.remedy(t, "gateway-service", "kick-slow", "for=0s")
	s.until(t, "gateway-service", "broadcasts_pending", atMost(20))
	const seconds = 3
	after := captureOne(t, s.center, "gateway-service", "-d", "3s", "--kinds", "block,goroutine")
	was, _ := weigh(t, before.profile(t, "block.pprof"), "delay", sendLine(t))
	is, _ := weigh(t, after.profile(t, "block.pprof"), "delay", sendLine(t))
	was, is = was/1e9/beforeSeconds, is/1e9/seconds
	t.Logf("the send line waits %.1f s a second, %.1f before slow players were dropped (%.0f so far)", is, was, s.figure(t, "gateway-service", "kicked_total"))
	if is >= was/5 {
		t.Errorf("the send line still waits %.1f s a second of %.1f", is, was)
	}
}

// batch lets the record service keep many records in one transaction while the
// trouble goes on, and shows the effect in a second capture.
func (s *stack) batch(t *testing.T, before evidence) {
	t.Helper()
	s.remedy(t, "game-record-service", "record-batch", "256")
	defer s.remedy(t, "game-record-service", "record-batch", "1")
	s.remedy(t, "game-record-service", "flush-records")
	s.until(t, "game-record-service", "pool_in_use", atMost(1)) // what was under way one by one is kept
	s.until(t, "game-service", "records_in_flight", atMost(220))
	after := captureOne(t, s.center, "game-record-service", "-d", "3s", "--kinds", "block,goroutine")
	acquire := func(f frame) bool { return strings.HasSuffix(f.function, "pgxpool.(*Pool).Acquire") }
	waited, _ := weigh(t, before.profile(t, "goroutine.pprof"), "goroutine", acquire)
	waits, _ := weigh(t, after.profile(t, "goroutine.pprof"), "goroutine", acquire)
	t.Logf("%.0f goroutines wait for a connection, %.0f before batches", waits, waited)
	if waited == 0 || waits >= waited/5 {
		t.Errorf("%.0f goroutines wait for a connection, %.0f before batches", waits, waited)
	}
}

func gogc() uint64 {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// A centre that is killed half-way through an action: the setting goes back by
// itself while there is no centre, and the next one says that nobody knows how
// the action ended, and whom it had reached.
func TestTheCentreIsKilledInTheMiddleOfAControl(t *testing.T) {
	if testing.Short() {
		t.Skip("runs real programs")
	}
	listen, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	center, data := "http://"+listen, filepath.Join(t.TempDir(), "data")
	serve := func() *process {
		p, err := start(nil, programs.ops, "serve", "--listen", listen, "--data", data)
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the centre answers", func() bool {
			resp, err := http.Get(center + "/healthz")
			return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
		})
		return p
	}
	first := serve()
	for range 2 {
		a, err := agent.Start(agent.Config{Center: center, Project: "e2e", Service: "target", SpoolDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close() })
	}
	waitFor(t, "both instances are there", func() bool {
		out, _ := ops(t, center, "control", "list", "target", "--json")
		return strings.Count(out, `"state": "up"`) == 2
	})
	was := gogc()
	began := time.Now()
	run, err := start(nil, programs.ops, "control", "target", "gogc", "77", "--ttl", "4s", "--all", "--pause", "1m", "--reason", "a test", "--yes", "--key", "k", "--server", center)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the first instance has it", func() bool { return gogc() == 77 })
	waitFor(t, "that is on record", func() bool {
		out, _ := ops(t, center, "audit", "list", "--outcome", "running", "--json")
		return strings.Contains(out, `"steps": [`+"\n        {")
	})
	kill(t, first.cmd.Process.Pid)
	<-first.ended
	<-run.ended
	if code := run.cmd.ProcessState.ExitCode(); code != 6 || !strings.Contains(run.said(), "the run was cut off: see what became of it with `ops audit list --id ") {
		t.Errorf("the command line ends with %d and says\n%s", code, run.said())
	}
	if now := gogc(); now != 77 && time.Since(began) < 4*time.Second {
		t.Error("the setting did not outlive the centre")
	}
	waitFor(t, "it has gone back by itself", func() bool { return gogc() == was })
	t.Logf("it went back %v after it was set, without a centre", time.Since(began).Round(100*time.Millisecond))

	second := serve()
	t.Cleanup(func() {
		if err := second.end(); err != nil {
			t.Errorf("the centre ended with %v and said\n%s", err, second.said())
		}
	})
	out, code := ops(t, center, "audit", "list", "--outcome", "unknown", "--json")
	var found struct {
		Entries []struct {
			Subject, Message string
			Steps            []struct{ Result string }
		}
	}
	if err := json.Unmarshal([]byte(out), &found); err != nil || code != exitDone || len(found.Entries) != 1 || found.Entries[0].Subject != "gogc" || len(found.Entries[0].Steps) != 1 || found.Entries[0].Steps[0].Result != "ok" {
		t.Errorf("the record says (%v)\n%s", err, out)
	}
	if out, code := ops(t, center, "audit", "verify"); code != exitDone || !strings.HasPrefix(out, "intact: ") {
		t.Errorf("exit code %d: %s", code, out)
	}
	waitFor(t, "both instances are back", func() bool {
		out, _ := ops(t, center, "control", "list", "target", "--json")
		return strings.Count(out, `"state": "up"`) == 2
	})
	if _, code := ops(t, center, "control", "target", "gogc", "77", "--ttl", "4s", "--all", "--pause", "1m", "--reason", "a test", "--yes", "--key", "k"); code != 1 || gogc() != was {
		t.Errorf("its repetition ends with %d", code)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
