package discovery

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/opscenter/opscenter/internal/ops"
)

func TestReplacedSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDialer()
		stays, goes, changes := newSource("stays"), newSource("goes"), newSource("changes")
		m := NewManager(Config{Sources: []Source{stays, goes, changes}, Connect: d.connect})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		settleDown()
		say := func(s *source, list []ops.Target) {
			s.lists <- list
			settleDown()
		}
		say(stays, targets("a", "b"))
		say(goes, targets("b", "c"))
		say(changes, targets("d"))
		check := func(when, want string) {
			t.Helper()
			if got := d.connected(); got != want {
				t.Errorf("%s: connected to\n%s, want\n%s", when, got, want)
			}
		}
		all := d.connected()
		check("at first", "changes grpc://d:1; goes grpc://c:1; stays grpc://a:1; stays grpc://b:1")

		changed, isNew := newSource("changes"), newSource("new")
		m.Replace([]Source{stays, changed, isNew})
		settleDown()
		check("after the change", "changes grpc://d:1; stays grpc://a:1; stays grpc://b:1")
		if len(d.causes) != 1 || stays.runs.Load() != 1 || changed.runs.Load() != 1 {
			t.Errorf("ended: %q; stays ran %d times, changed %d", d.causes, stays.runs.Load(), changed.runs.Load())
		}
		if s := m.Status(); len(s) != 3 || s[1].Targets != 1 || s[1].StaleSince.IsZero() || s[2].Source != "new" {
			t.Errorf("%+v", s)
		}
		say(changed, targets("e"))
		say(isNew, targets("c"))
		check("when they spoke", "changes grpc://e:1; new grpc://c:1; stays grpc://a:1; stays grpc://b:1")

		m.Replace(nil)
		settleDown()
		check("without any", "")
		if all == "" {
			t.Error("nothing was connected in the first place")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		m.Replace([]Source{stays}) // too late, and harmless
	})
}

func TestReplaceBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, first, second := newDialer(), newSource("first"), newSource("second")
		m := NewManager(Config{Sources: []Source{first}, Connect: d.connect})
		m.Replace([]Source{second})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		settleDown()
		second.lists <- targets("a")
		settleDown()
		if got := d.connected(); got != "second grpc://a:1" || first.runs.Load() != 0 {
			t.Errorf("%s, first ran %d times", got, first.runs.Load())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
