// Ok-keyed-locks changes profiles.
package main

import (
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type profiles struct {
	locks sync.Map
	http  *http.Client
	base  string
}

func (p *profiles) change(player string) error {
	v, _ := p.locks.LoadOrStore(player, &sync.Mutex{})
	mu := v.(*sync.Mutex)
	mu.Lock()
	defer mu.Unlock()
	resp, err := p.http.Get(p.base + "/change")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func main() {
	stage.Child("profiles", standin.Web(standin.Always(3*time.Millisecond)))
	s := stage.Start()
	p := &profiles{http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}, base: "http://" + s.Spawn("profiles")}
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/change", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.change(strconv.FormatInt(n.Add(1)%2000, 10)); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/change", PerSecond: 200})
	s.Wait()
}
