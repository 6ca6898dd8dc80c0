package agentlink

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryIsGivenBackOnceAStormIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		given := 0
		s := &storm{giveBack: func() { given++ }}
		defer s.close()
		join := func(n int, apart time.Duration) {
			for range n {
				s.joined()
				time.Sleep(apart)
			}
		}
		wait := func(want int, what string) {
			t.Helper()
			time.Sleep(time.Minute)
			synctest.Wait()
			if given != want {
				t.Errorf("given back %d times, want %d: %s", given, want, what)
			}
		}
		join(stormSize-1, 0)
		wait(0, "too few")
		join(1, 0)
		wait(1, "the last that it takes")
		join(3000, 10*time.Millisecond)
		wait(2, "once for all of them")
		join(10, 0)
		wait(2, "a few more")
	})
}

func TestClosingInAStormWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &storm{giveBack: func() { t.Error("given back after the end") }}
		for range stormSize {
			s.joined()
		}
		s.close()
		s.joined()
		time.Sleep(time.Minute)
	})
}
