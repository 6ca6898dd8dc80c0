// Loader-lock-redis keeps a cache in front of a slower one.
package main

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/testdata/programs/cache-redis/redis"
)

type cache[K comparable, V any] struct {
	mu   sync.Mutex
	data map[K]V
	load func(K) (V, error)
}

func (c *cache[K, V]) get(k K) (V, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.data[k]; ok {
		return v, nil
	}
	v, err := c.load(k) // want: lock-held-across-io
	if err == nil && len(c.data) < 1000 {
		c.data[k] = v
	}
	return v, err
}

func loader(r *redis.Client) func(string) (string, error) {
	return func(k string) (string, error) {
		return r.Get(k) // want: lock-held-across-io
	}
}

func main() {
	stage.Child("redis", standin.Redis(standin.Always(10*time.Millisecond)))
	s := stage.Start()
	c := &cache[string, string]{data: map[string]string{}, load: loader(redis.New(s.Spawn("redis")))}
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/item", func(w http.ResponseWriter, _ *http.Request) {
		v, err := c.get(fmt.Sprint("item:", n.Add(1)))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintln(w, v)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/item", Users: 50, Pause: 5 * time.Millisecond})
	s.Wait()
}
