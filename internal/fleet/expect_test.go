package fleet

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

func TestTooFewInstancesAreToldOfOnceTheyHaveLasted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var told []string
		w := start(t, Config{Short: func(s Shortage) {
			told = append(told, fmt.Sprintf("%v: %d of %d since %v", time.Since(began), s.Up, s.Count, s.Since.Sub(began)))
		}})
		key := ops.ServiceKey{Project: "color-game", Service: "user-service"}
		shortages := func() string {
			synctest.Wait()
			var out []string
			for _, s := range w.f.Shortages() {
				out = append(out, fmt.Sprintf("%s %d/%d since %v, %s, alarm %t", s.Service, s.Up, s.Count, s.Since.Sub(began), s.Says, s.Alarm))
			}
			return strings.Join(out, "; ")
		}
		check := func(want string) {
			t.Helper()
			if got := shortages(); got != want {
				t.Errorf("after %v: %q\nwant %q", time.Since(began), got, want)
			}
		}
		check("")
		w.f.Expect(map[ops.ServiceKey]ops.Expectation{key: {Count: 2, Says: "projects.color-game.expect"}})
		check("color-game/user-service 0/2 since 0s, projects.color-game.expect, alarm false")

		// Whoever comes in time is no news.
		one, two := newProcess(), newProcess()
		w.join(instance("boot-1"), one)
		w.join(instance("boot-2"), two)
		time.Sleep(2 * time.Second)
		check("")
		time.Sleep(2*time.Minute + 500*time.Millisecond) // leases are judged on the second

		// A process that dies is missed from then on, and told of once.
		two.end <- nil
		time.Sleep(time.Second)
		check("color-game/user-service 1/2 since 2m3s, projects.color-game.expect, alarm false")
		time.Sleep(3 * time.Minute)
		check("color-game/user-service 1/2 since 2m3s, projects.color-game.expect, alarm true")
		// Another number, read from the configuration again, forgets nothing.
		w.f.Expect(map[ops.ServiceKey]ops.Expectation{key: {Count: 3, Says: "projects.color-game.expect"}})
		check("color-game/user-service 1/3 since 2m3s, projects.color-game.expect, alarm true")
		w.f.Expect(map[ops.ServiceKey]ops.Expectation{key: {Count: 1, Says: "projects.color-game.expect"}})
		check("")
		w.f.Expect(nil)
		w.end()
		if got, want := strings.Join(told, "\n"), "3m3s: 1 of 2 since 2m3s"; got != want {
			t.Errorf("told:\n%s\nwant:\n%s", got, want)
		}
	})
}

// TestTheWordOfASource: what a registry says should be there, held against who is.
func TestTheWordOfASource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := ops.ServiceKey{Project: "color-game", Service: "user-service"}
		var mu sync.Mutex
		said := map[ops.ServiceKey]ops.Expectation{}
		say := func(e ops.Expectation) {
			mu.Lock()
			defer mu.Unlock()
			e.Says = "Kubernetes deployment game/user"
			said = map[ops.ServiceKey]ops.Expectation{key: e}
		}
		told := 0
		w := start(t, Config{Short: func(Shortage) { told++ }, Expected: func() map[ops.ServiceKey]ops.Expectation {
			mu.Lock()
			defer mu.Unlock()
			return said
		}})
		check := func(when, want string) {
			t.Helper()
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			got := "enough"
			for _, s := range w.f.Shortages() {
				got = fmt.Sprintf("%d of %d by %s, stale %t, alarm %t", s.Up, s.Count, s.Says, !s.StaleSince.IsZero(), s.Alarm)
			}
			if got = fmt.Sprintf("%s, told %d", got, told); got != want {
				t.Errorf("%s: %s\nwant %s", when, got, want)
			}
		}
		say(ops.Expectation{Count: 3})
		check("what has never had an agent in it", "enough, told 0")
		processes := map[ops.InstanceID]*process{}
		for _, id := range []ops.InstanceID{"boot-1", "boot-2", "boot-3"} {
			processes[id] = newProcess()
			w.join(instance(id), processes[id])
		}
		check("all are there", "enough, told 0")
		say(ops.Expectation{Count: 4, Away: 1})
		check("one is being replaced", "enough, told 0")
		say(ops.Expectation{Count: 2})
		check("more than asked for", "enough, told 0")

		processes["boot-3"].end <- nil
		say(ops.Expectation{Count: 3, StaleSince: time.Now()})
		check("nobody can say whether it was scaled down", "2 of 3 by Kubernetes deployment game/user, stale true, alarm false, told 0")
		say(ops.Expectation{Count: 3})
		check("it was not", "2 of 3 by Kubernetes deployment game/user, stale false, alarm true, told 1")
		say(ops.Expectation{Count: 3, StaleSince: time.Now()})
		check("what was an alarm stays one", "2 of 3 by Kubernetes deployment game/user, stale true, alarm true, told 1")

		w.f.Expect(map[ops.ServiceKey]ops.Expectation{key: {Count: 2, Says: "projects.color-game.expect"}})
		check("the operator knows better", "enough, told 1")
		w.f.Expect(nil)
		processes["boot-1"].end <- nil
		processes["boot-2"].end <- nil
		say(ops.Expectation{Count: 0})
		check("scaled to zero", "enough, told 1")
		say(ops.Expectation{Count: 3})
		check("and back, without anybody", "0 of 3 by Kubernetes deployment game/user, stale false, alarm true, told 2")
		time.Sleep(2 * ops.TombstoneFor)
		check("it is missed for longer than the dead are remembered", "0 of 3 by Kubernetes deployment game/user, stale false, alarm true, told 2")
		w.end()
	})
}
