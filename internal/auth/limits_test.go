package auth

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

func TestACallerWhoAsksTooMuchIsToldWhenToComeBack(t *testing.T) {
	now := time.Now()
	l := NewLimiter(Limits{PerSecond: 10, Burst: 20, Concurrent: 3}, func() time.Time { return now })
	enter := func(name, want string) func() {
		t.Helper()
		done, err := l.Enter(name)
		if got := fmt.Sprint(err); err != nil && got != want || err == nil && want != "" {
			t.Fatalf("%s: %v, want %q", name, err, want)
		}
		return done
	}
	for range 20 {
		enter("ann", "")()
	}
	enter("ann", "ann asks more than 10 times a second: ask less often")
	_, err := l.Enter("ann")
	var retry *RetryError
	if !errors.As(err, &retry) || retry.After != 100*time.Millisecond || ops.KindOf(err) != ops.Exhausted {
		t.Errorf("%v, %s", retry, ops.KindOf(err))
	}
	enter("bob", "")() // somebody else
	now = now.Add(100 * time.Millisecond)
	enter("ann", "")()

	now = now.Add(time.Hour)
	first := enter("ann", "")
	enter("ann", "")
	enter("ann", "")
	enter("ann", "3 requests of ann are running, which is the most: wait until one ends")
	first()
	first() // twice is once
	enter("ann", "")
	enter("ann", "3 requests of ann are running, which is the most: wait until one ends")
}

func TestManyCallersAreForgotten(t *testing.T) {
	l := NewLimiter(Limits{}, nil)
	busy, err := l.Enter("busy")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * callersKept {
		done, err := l.Enter(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		done()
	}
	if n := l.used.Len(); n > callersKept || len(l.rows) != n {
		t.Errorf("%d and %d callers are kept", n, len(l.rows))
	}
	if _, ok := l.rows["busy"]; !ok {
		t.Error("one whose request runs was forgotten")
	}
	busy()
}
