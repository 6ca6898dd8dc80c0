// Cache-redis reads profiles from a cache over the network.
package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/testdata/programs/cache-redis/redis"
)

type profiles struct{ cache *redis.Client }

func (p *profiles) show(w http.ResponseWriter, r *http.Request) {
	v, err := p.cache.Get("profile:" + r.FormValue("id")) // want: downstream-wait
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, v)
}

func main() {
	stage.Child("redis", standin.Redis(standin.Always(350*time.Millisecond)))
	s := stage.Start()
	p := &profiles{redis.New(s.Spawn("redis"))}
	mux := http.NewServeMux()
	mux.HandleFunc("/profile", p.show)
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/profile?id=7", Users: 60, Pause: 20 * time.Millisecond})
	s.Wait()
}
