// Three-locks-ring trades between guilds.
package main

import (
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type guild struct {
	sync.Mutex
	w    *wallet
	fame int
}

type wallet struct {
	sync.Mutex
	i     *inventory
	coins int
}

type inventory struct {
	sync.Mutex
	g     *guild
	items int
}

func (g *guild) donate() {
	g.Lock()
	defer g.Unlock()
	g.fame++
	time.Sleep(time.Millisecond)
	g.w.Lock() // want: deadlock
	g.w.coins--
	g.w.Unlock()
}

func (w *wallet) buy() {
	w.Lock()
	defer w.Unlock()
	w.coins--
	time.Sleep(time.Millisecond)
	w.i.Lock() // want: deadlock
	w.i.items++
	w.i.Unlock()
}

func (i *inventory) enlist() {
	i.Lock()
	defer i.Unlock()
	i.items--
	time.Sleep(time.Millisecond)
	i.g.Lock() // want: deadlock
	i.g.fame++
	i.g.Unlock()
}

func main() {
	s := stage.Start()
	g, w, i := &guild{}, &wallet{}, &inventory{}
	g.w, w.i, i.g = w, i, g
	mux := http.NewServeMux()
	mux.HandleFunc("/donate", func(http.ResponseWriter, *http.Request) { g.donate() })
	mux.HandleFunc("/buy", func(http.ResponseWriter, *http.Request) { w.buy() })
	mux.HandleFunc("/enlist", func(http.ResponseWriter, *http.Request) { i.enlist() })
	at := s.Serve(mux)
	for _, p := range []string{"/donate", "/buy", "/enlist"} {
		s.Crowd(stage.Traffic{URL: at + p, Users: 8, Pause: 3 * time.Millisecond})
	}
	s.Wait()
}
