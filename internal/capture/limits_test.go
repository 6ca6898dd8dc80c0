package capture_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/ops"
)

func TestRequestsThatCannotBeRight(t *testing.T) {
	h := newHouse(t, capture.Limits{}, func(f *fleet) {
		f.add(users, "i-user", agent(0))
		f.add("game-service", "i-game", agent(0))
		f.add(users, "i-gone", agent(0))
		f.instances[2].State, f.instances[2].StateReason = ops.InstanceGone, "clean exit"
	})
	for _, c := range []struct {
		req  capture.Request
		kind ops.ErrorKind
		want string
	}{
		{capture.Request{}, ops.Invalid, `a capture needs a project and a service, or instances by name`},
		{capture.Request{Project: "color-game"}, ops.Invalid, `a capture needs a project and a service, or instances by name`},
		{capture.Request{Project: "color-game", Service: "lobby"}, ops.NotFound, `no instance of color-game/lobby is up: see which services are there with "ops services"`},
		{capture.Request{Instances: []ops.InstanceID{"i-nobody"}}, ops.NotFound, `no instance i-nobody`},
		{capture.Request{Instances: []ops.InstanceID{"i-user", "i-game"}}, ops.Invalid, `instance i-user belongs to color-game/user-service and i-game to color-game/game-service: a capture is of one service`},
		{capture.Request{Project: "color-game", Service: "game-service", Instances: []ops.InstanceID{"i-user"}}, ops.Invalid, `instance i-user belongs to color-game/user-service, not to color-game/game-service: a capture is of one service`},
		{capture.Request{Instances: []ops.InstanceID{"i-gone"}}, ops.Unavailable, `instance i-gone of color-game/user-service is gone (clean exit): choose one that is up`},
		{capture.Request{Project: "color-game", Service: users, Max: -1}, ops.Invalid, `cannot capture -1 instances: use 1 or more, or 0 for as many as the limits allow`},
		{capture.Request{Project: "color-game", Service: users, Spec: ops.Spec{Duration: time.Hour}}, ops.Invalid, `duration 1h0m0s is out of range: use 1s to 10m0s`},
	} {
		_, err := h.Start(t.Context(), c.req)
		if ops.KindOf(err) != c.kind || err == nil || err.Error() != c.want {
			t.Errorf("%+v:\n got %v (%s)\nwant %s (%s)", c.req, err, ops.KindOf(err), c.want, c.kind)
		}
	}
}

func (h *house) refused(req capture.Request, want string, args ...any) {
	h.t.Helper()
	_, err := h.Start(h.t.Context(), req)
	if want = fmt.Sprintf(want, args...); ops.KindOf(err) != ops.Exhausted || err.Error() != want {
		h.t.Errorf("\n got %v\nwant %s", err, want)
	}
}

func TestTwoWindowsAtOnceOnAnInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, capture.Limits{}, many(2, func(int) ops.Link { return agent(0) }))
		first := capture.Request{Instances: []ops.InstanceID{"i-01"}}
		a, b := h.start(first), h.start(first)
		h.refused(first, "user-service/i-01 is in 2 captures already (%s, %s), the most at once: wait until one ends, or stop one", a, b)

		// The one that is free takes part, the other says why it does not.
		c := h.ended(h.start(capture.Request{Service: users}))
		want := fmt.Sprintf("1 of 2 instances; user-service/i-01: is in 2 captures already (%s, %s), the most at once: wait until one ends, or stop one", a, b)
		if c.State != ops.CapturePartial || c.Reason != want {
			t.Errorf("capture is %s,\n got %q\nwant %q", c.State, c.Reason, want)
		}
		if h.ended(a).State != ops.CaptureDone || h.ended(b).State != ops.CaptureDone {
			t.Error("the first two did not end well")
		}
		// Their places are free again.
		if c := h.ended(h.start(first)); c.State != ops.CaptureDone {
			t.Errorf("capture is %s: %s", c.State, c.Reason)
		}
	})
}

func TestALargeService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, capture.Limits{PerCenter: 15}, many(40, func(int) ops.Link { return agent(0) }))
		all := capture.Request{Project: "color-game", Service: users}
		h.refused(capture.Request{Project: "color-game", Service: users, Max: 11},
			"of the 40 instances of color-game/user-service at most 10 are captured at once, and 0 are running: ask for up to 10, or name the instances")

		a := h.start(capture.Request{Service: users, Max: 6})
		h.refused(capture.Request{Project: "color-game", Service: users, Max: 5},
			"of the 40 instances of color-game/user-service at most 10 are captured at once, and 6 are running (%s): ask for up to 4, or name the instances", a)
		b := h.start(all)
		s, err := h.Capture(t.Context(), b)
		if err != nil || len(s.Targets) != 4 || s.Targets[0].Instance.ID == "i-01" {
			t.Errorf("as many as the limits allow are %d (%v), want the 4 free places", len(s.Targets), err)
		}
		h.refused(all, "of the 40 instances of color-game/user-service at most 10 are captured at once, and 10 are running (%s, %s): ask for one when a running capture has ended, or name the instances", a, b)

		// Named ones pass, up to what the centre can take.
		named := capture.Request{Instances: []ops.InstanceID{"i-31", "i-32", "i-33", "i-34", "i-35"}}
		more := named
		more.Instances = append(more.Instances, "i-36")
		h.refused(more, "the centre captures at most 15 instances at once and has 10 running (%s, %s): ask for up to 5", a, b)
		n := h.start(named)
		h.refused(all, "the centre captures at most 15 instances at once, and all are running (%s, %s, %s): wait until one ends, or stop one", a, b, n)
		for _, id := range []ops.CaptureID{a, b, n} {
			if c := h.ended(id); c.State != ops.CaptureDone {
				t.Errorf("capture is %s: %s", c.State, c.Reason)
			}
		}
		if c := h.ended(h.start(all)); len(c.Targets) != 10 {
			t.Errorf("captured %d, want 10 of 40", len(c.Targets))
		}
	})
}

func TestASmallServiceIsCapturedWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, capture.Limits{}, many(10, func(int) ops.Link { return agent(0) }))
		h.fleet.instances[0].State = ops.InstanceSuspect
		if c := h.ended(h.start(capture.Request{Service: users})); len(c.Targets) != 10 || c.State != ops.CaptureDone {
			t.Errorf("captured %d: %s", len(c.Targets), c.State)
		}
		for _, target := range h.ended(h.start(capture.Request{Service: users, Max: 9})).Targets {
			if target.Instance.State != ops.InstanceUp {
				t.Errorf("%s was preferred, though it is suspect", target.Instance.ID)
			}
		}
		if c := h.ended(h.start(capture.Request{Service: users, Max: 25})); len(c.Targets) != 10 {
			t.Errorf("captured %d of 10 for 25", len(c.Targets))
		}
	})
}

func TestTheHourlyBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quick := one(pieces(piece{name: "heap.pprof", kind: ops.KindHeap, data: []byte("x")}))
		h := newHouse(t, capture.Limits{}, quick)
		req := capture.Request{Instances: []ops.InstanceID{"i-one"}, Spec: ops.Spec{Duration: time.Second}}
		for range 60 {
			h.ended(h.start(req))
			time.Sleep(10 * time.Second)
		}
		h.refused(req, "user-service/i-one was captured 60 times within an hour, the most for one instance: try again in 50m0s")
		time.Sleep(50 * time.Minute)
		h.ended(h.start(req))

		free := newHouse(t, capture.Limits{PerHour: -1, Cooldown: -1}, quick)
		for range 100 {
			free.ended(free.start(req))
		}
	})
}

func TestAnInstanceRestsBetweenWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quick := func(f *fleet) {
			for _, id := range []ops.InstanceID{"i-one", "i-two"} {
				f.add(users, id, pieces(piece{name: "heap.pprof", kind: ops.KindHeap, data: []byte("x")}))
			}
		}
		h := newHouse(t, capture.Limits{}, quick)
		req := func(ids ...ops.InstanceID) capture.Request {
			return capture.Request{Instances: ids, Spec: ops.Spec{Duration: time.Second}}
		}
		begin := time.Now()
		for range 10 {
			h.ended(h.start(req("i-one")))
		}
		took := time.Since(begin)
		h.refused(req("i-one"), "user-service/i-one was captured 10 times in a row and has to rest: try again in %v", (10*time.Second - took).Round(time.Second))
		// The one that has rested takes part, the other says why it does not.
		c := h.ended(h.start(req("i-one", "i-two")))
		if c.State != ops.CapturePartial || !strings.Contains(c.Reason, "user-service/i-one: was captured 10 times in a row and has to rest: try again in ") {
			t.Errorf("capture is %s: %s", c.State, c.Reason)
		}
		time.Sleep(10*time.Second - time.Since(begin))
		h.ended(h.start(req("i-one")))
		h.refused(req("i-one"), "user-service/i-one was captured 10 times in a row and has to rest: try again in %v", 10*time.Second)
	})
}
