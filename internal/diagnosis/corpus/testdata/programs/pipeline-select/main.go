// Pipeline-select takes events through decoding and storage.
package main

import (
	"context"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/testdata/programs/cache-redis/redis"
)

type event struct{ id, kind string }

func emit[T any](ctx context.Context, to chan<- T, v T) bool {
	select { // want: channel-backpressure
	case to <- v: // want: channel-backpressure
		return true
	case <-ctx.Done():
		return false
	}
}

func ingest(ctx context.Context, from <-chan string, to chan<- event) {
	for id := range from {
		if !emit(ctx, to, event{id, "bet"}) { // want: channel-backpressure
			return
		}
	}
}

func persist(from <-chan event, cache *redis.Client) {
	for ev := range from {
		_, _ = cache.Do("RPUSH", "events", ev.id)
	}
}

func main() {
	stage.Child("store", standin.Redis(standin.Always(25*time.Millisecond)))
	s := stage.Start()
	ctx := s.Context()
	cache := redis.New(s.Spawn("store"))
	raw, decoded := make(chan string), make(chan event, 4)
	var all sync.WaitGroup
	for range 24 {
		all.Go(func() { ingest(ctx, raw, decoded) })
	}
	go persist(decoded, cache)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			select {
			case raw <- "id":
			default: // the source drops what nobody takes
			}
		}
	}()
	s.Wait()
}
