package fleet

import (
	"fmt"
	"strings"
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
		w.f.Expect(map[ops.ServiceKey]Expectation{key: {2, "projects.color-game.expect"}})
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
		w.f.Expect(map[ops.ServiceKey]Expectation{key: {3, "projects.color-game.expect"}})
		check("color-game/user-service 1/3 since 2m3s, projects.color-game.expect, alarm true")
		w.f.Expect(map[ops.ServiceKey]Expectation{key: {1, "projects.color-game.expect"}})
		check("")
		w.f.Expect(nil)
		w.end()
		if got, want := strings.Join(told, "\n"), "3m3s: 1 of 2 since 2m3s"; got != want {
			t.Errorf("told:\n%s\nwant:\n%s", got, want)
		}
	})
}
