package changes_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opscenter/opscenter/internal/changes"
)

func TestASlowReaderLearnsOfAThingOnce(t *testing.T) {
	var topic changes.Topic[string]
	s := topic.Subscribe()
	defer s.Close()
	for range 1000 {
		topic.Publish("a")
		topic.Publish("b", "c")
	}
	got, err := s.Next(t.Context())
	slices.Sort(got)
	if err != nil || !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestNextWaitsForAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var topic changes.Topic[int]
		s := topic.Subscribe()
		defer s.Close()
		start := time.Now()
		go func() {
			time.Sleep(time.Minute)
			topic.Publish(7)
		}()
		got, err := s.Next(t.Context())
		if err != nil || !slices.Equal(got, []int{7}) || time.Since(start) != time.Minute {
			t.Fatalf("%v, %v after %v", got, err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Next(ctx); err == nil {
			t.Fatal("a change that was taken came again")
		}
	})
}

func TestEveryReaderLearnsAndAClosedOneDoesNot(t *testing.T) {
	var topic changes.Topic[int]
	a, b := topic.Subscribe(), topic.Subscribe()
	topic.Publish(1)
	a.Close()
	topic.Publish(2)
	if got := a.Take(); !slices.Equal(got, []int{1}) {
		t.Errorf("closed: %v", got)
	}
	got := b.Take()
	slices.Sort(got)
	if !slices.Equal(got, []int{1, 2}) {
		t.Errorf("open: %v", got)
	}
}
