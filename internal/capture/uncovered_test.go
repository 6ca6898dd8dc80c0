package capture

import (
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// What is shorter than a profile's sample would read "0s … is not covered".
func TestAGapShorterThanASampleIsNoLoss(t *testing.T) {
	begun := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	segments := func(gap time.Duration) []ops.Artifact {
		return []ops.Artifact{
			{WindowStart: begun, WindowEnd: begun.Add(5 * time.Second)},
			{WindowStart: begun.Add(5*time.Second + gap), WindowEnd: begun.Add(10 * time.Second)},
		}
	}
	asked := window{begun, begun.Add(10 * time.Second)}
	if got := uncovered(segments(245*time.Microsecond), asked); len(got) != 0 {
		t.Errorf("245µs: %+v", got)
	}
	if got := uncovered(segments(20*time.Millisecond), asked); len(got) != 1 {
		t.Errorf("20ms: %+v", got)
	}
}
