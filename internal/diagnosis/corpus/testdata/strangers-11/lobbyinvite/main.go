package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync"
	"time"
)

type inviteID string

type invite struct {
	ID     inviteID `json:"id"`
	From   string   `json:"from"`
	To     string   `json:"to"`
	Banner []byte   `json:"banner"`
	state  int
}

const (
	pending = iota
	accepted
	expired
)

type shard struct {
	sync.Mutex
	open map[inviteID]*invite
}

type lobby struct {
	shards [8]*shard
	ttl    time.Duration
	notify func(to, what string)
}

func newLobby(ttl time.Duration, notify func(string, string)) *lobby {
	l := &lobby{ttl: ttl, notify: notify}
	for i := range l.shards {
		l.shards[i] = &shard{open: map[inviteID]*invite{}}
	}
	return l
}

func (l *lobby) shard(id inviteID) *shard { return l.shards[id[len(id)-1]&7] }

func (l *lobby) send(inv *invite) {
	s := l.shard(inv.ID)
	s.Lock()
	s.open[inv.ID] = inv
	s.Unlock()
	time.AfterFunc(l.ttl, func() { // want: timer-leak
		if l.close(inv.ID, expired) == nil {
			l.notify(inv.From, "expired "+inv.To)
		}
	})
}

var errGone = errors.New("invite is gone")

func (l *lobby) close(id inviteID, state int) error {
	s := l.shard(id)
	s.Lock()
	defer s.Unlock()
	inv, ok := s.open[id]
	if !ok {
		return errGone
	}
	inv.state = state
	delete(s.open, id) // want: timer-leak
	return nil
}

func (l *lobby) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /invites/{id}", func(w http.ResponseWriter, r *http.Request) {
		inv := &invite{ID: inviteID(r.PathValue("id"))}
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(inv); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		l.send(inv) // want: timer-leak
		w.WriteHeader(http.StatusCreated)
	})
	mux.HandleFunc("DELETE /invites/{id}", func(w http.ResponseWriter, r *http.Request) {
		if err := l.close(inviteID(r.PathValue("id")), accepted); err != nil {
			http.Error(w, err.Error(), http.StatusGone)
		}
	})
	return mux
}

type friend struct {
	name, base string
	hc         http.Client
}

func (f *friend) call(method string, id inviteID, body string) error {
	req, err := http.NewRequest(method, f.base+"/invites/"+string(id), strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := f.hc.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

func (f *friend) play() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	banner := strings.Repeat("QUJD", 1400)
	for n := 0; ; n++ {
		<-tick.C
		id := inviteID(fmt.Sprintf("%s-%d", f.name, n))
		body := fmt.Sprintf(`{"id":%q,"from":%q,"to":"u%d","banner":%q}`, id, f.name, n%500, banner)
		if err := errors.Join(f.call("PUT", id, body), f.call("DELETE", id, "")); err != nil {
			log.Print(err)
		}
	}
}

func main() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	l := newLobby(45*time.Minute, func(to, what string) { log.Println(to, what) })
	go http.Serve(ln, l.routes())
	for i := range 4 {
		f := &friend{name: fmt.Sprintf("u%d", i), base: "http://" + ln.Addr().String()}
		go f.play()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
