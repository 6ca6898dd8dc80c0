package rules

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/ops"
)

// full is an archive that has no room.
type full struct {
	Captures
	err error
}

func (f full) Adopt(context.Context, capture.Adoption) (ops.Capture, error) {
	return ops.Capture{}, f.err
}

// What an instance collected and the centre cannot take is tried again and again;
// that, and why, is told once.
func TestACaptureForWhichThereIsNoRoomIsInTheHistoryOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := openHistory("")
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(Config{Dir: t.TempDir(), Every: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		c.history = h
		inst := ops.Instance{ID: "i", Project: "p", Service: "s"}
		kept := ops.KeptCapture{ID: "01capture", Rule: "stall", Reason: "a call took long"}
		c.cfg.Captures = full{err: ops.Errorf(ops.Unavailable, "the link is lost")}
		c.take(t.Context(), inst, kept, nil)
		if got := c.History(Filter{}); len(got) != 0 {
			t.Fatalf("what is tried again is told: %+v", got)
		}
		c.cfg.Captures = full{err: ops.Errorf(ops.Exhausted, "no new captures: the disk is full")}
		for range 3 {
			c.take(t.Context(), inst, kept, nil)
		}
		got := c.History(Filter{})
		if len(got) != 1 || got[0].Kind != ops.RuleRefusal || got[0].Capture != kept.ID || got[0].Reason != "the centre does not take it: no new captures: the disk is full" || got[0].Reasons[0].Code != "no-room" {
			t.Errorf("the history has %+v", got)
		}
	})
}
