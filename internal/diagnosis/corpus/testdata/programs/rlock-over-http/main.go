// Rlock-over-http serves rooms of a map that is replaced now and then.
package main

import (
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type directory struct {
	sync.RWMutex
	base  string
	rooms map[string]int
}

func (d *directory) describe(room string) ([]byte, error) {
	d.RLock()
	defer d.RUnlock()
	_ = d.rooms[room]
	resp, err := http.Get(d.base + "/room/" + room) // want: lock-held-across-io
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func (d *directory) put(room string, n int) {
	d.Lock()
	d.rooms[room] = n
	d.Unlock()
}

func main() {
	stage.Child("rooms", standin.Web(standin.Always(40*time.Millisecond)))
	s := stage.Start()
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 100
	d := &directory{base: "http://" + s.Spawn("rooms"), rooms: map[string]int{}}
	go func() {
		for range time.Tick(40 * time.Millisecond) {
			d.put("lobby", 1)
		}
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("/room", func(w http.ResponseWriter, _ *http.Request) {
		b, err := d.describe("lobby")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = w.Write(b)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/room", Users: 40, Pause: 5 * time.Millisecond})
	s.Wait()
}
