package discovery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// counting is a source of the tests that knows how many there should be.
type counting struct {
	*source
	*Trouble
	Counts
}

func newCounting(name string) *counting {
	return &counting{source: newSource(name), Trouble: NewTrouble(nil, name)}
}

func (c *counting) say(service string, n int) {
	c.SetExpected(map[ops.ServiceKey]ops.Expectation{{Project: "game", Service: ops.ServiceName(service)}: {Count: n, Says: c.name}}, "")
}

func TestWhatTheSourcesExpect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		first, second := newCounting("first"), newCounting("second")
		m := NewManager(Config{Sources: []Source{first, newSource("silent"), second}, Connect: newDialer().connect})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		check := func(when, want string) {
			t.Helper()
			var got []string
			for k, e := range m.Expected() {
				stale := "current"
				if !e.StaleSince.IsZero() {
					stale = "stale since " + e.StaleSince.Sub(began).Round(time.Second).String()
				}
				got = append(got, fmt.Sprintf("%s %d by %s, %s", k.Service, e.Count, e.Says, stale))
			}
			slices.Sort(got)
			if got := strings.Join(got, "; "); got != want {
				t.Errorf("%s: %s\nwant %s", when, got, want)
			}
		}
		check("nobody has spoken", "")
		for _, s := range []*counting{first, second} {
			s.lists <- targets("a")
			settleDown()
		}
		first.say("user", 3)
		second.SetExpected(map[ops.ServiceKey]ops.Expectation{
			{Project: "game", Service: "user"}: {Count: 5, Says: "second"},
			{Project: "game", Service: "pay"}:  {Count: 2, Says: "second"},
		}, "statefulsets are not told")
		check("the first is believed", "pay 2 by second, current; user 3 by first, current")
		if s := m.Status(); s[0].Expects != 1 || s[1].Expects != 0 || s[2].Expects != 2 || s[2].Unknown != "statefulsets are not told" || s[2].Problem != "" {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Minute - time.Since(began))
		first.Set("away")
		check("what is stale stays, and says so", "pay 2 by second, current; user 3 by first, stale since 1m0s")

		// A source that is configured anew has not spoken yet: nobody is forgotten.
		again := newCounting("first")
		m.Replace([]Source{again, second})
		settleDown()
		check("replaced", "pay 2 by second, current; user 3 by first, stale since "+m.Status()[0].StaleSince.Sub(began).Round(time.Second).String())
		again.lists <- targets("a")
		settleDown()
		again.SetExpected(map[ops.ServiceKey]ops.Expectation{}, "")
		check("it says nothing of the kind", "pay 2 by second, current; user 5 by second, current")
		m.Replace(nil)
		check("without any", "")
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
