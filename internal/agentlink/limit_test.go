package agentlink

import (
	"testing"
	"time"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

func TestACaptureIsBounded(t *testing.T) {
	ce := newCentre(t, Config{MaxCaptureBytes: 1 << 20})
	a := newFakeAgent("boot-1")
	a.onCollect = func(_ *agentv1.CollectPerformanceDataRequest, s collectStream) error {
		if err := s.Send(begin(1, "a")); err != nil {
			return err
		}
		piece := string(make([]byte, 32<<10))
		for off := int64(0); ; off += int64(len(piece)) {
			if err := s.Send(data(1, off, piece)); err != nil {
				return err
			}
		}
	}
	a.dial(t, ce.address)
	got := <-collect(t.Context(), ce.roster.next(t).link, spec(t, time.Second), opstest.NewRecorder())
	want := "instance boot-1 sent more than 1 MiB, the most for one capture: ask for fewer kinds or a shorter trace"
	if ops.KindOf(got.err) != ops.Exhausted || got.err.Error() != want {
		t.Errorf("%v\nwant %s", got.err, want)
	}
}
