// table-lobby keeps the tables of a casino lobby: who sits where and what is
// shown to those who look for a place.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sort"
	"sync"
	"time"
)

type table struct {
	Name  string `json:"name"`
	Seats int    `json:"seats"`
	taken map[string]bool
}

type row struct {
	Name string `json:"name"`
	Free int    `json:"free"`
}

type lobby struct {
	mu     sync.RWMutex
	tables map[string]*table
}

func newLobby(n int) *lobby {
	l := &lobby{tables: make(map[string]*table, n)}
	for i := range n {
		t := &table{Name: fmt.Sprintf("table-%02d", i), Seats: 9, taken: make(map[string]bool)}
		l.tables[t.Name] = t
	}
	return l
}

// Free tells how many seats of a table are not taken.
func (l *lobby) Free(name string) int {
	l.mu.RLock() // want: deadlock
	defer l.mu.RUnlock()
	t, ok := l.tables[name]
	if !ok {
		return 0
	}
	return t.Seats - len(t.taken)
}

// Overview lists the tables, those with most free seats first.
func (l *lobby) Overview() []row {
	l.mu.RLock() // want: deadlock
	defer l.mu.RUnlock()
	rows := make([]row, 0, len(l.tables))
	for name := range l.tables {
		rows = append(rows, row{Name: name, Free: l.Free(name)}) // want: deadlock
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Free > rows[j].Free })
	return rows
}

// Sit takes a seat, or gives it back when the player has one.
func (l *lobby) Sit(name, player string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.tables[name]
	if !ok {
		return false
	}
	if t.taken[player] {
		delete(t.taken, player)
		return false
	}
	if len(t.taken) >= t.Seats {
		return false
	}
	t.taken[player] = true
	return true
}

func (l *lobby) routes() http.Handler {
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
	mux.HandleFunc("GET /tables", func(w http.ResponseWriter, r *http.Request) { reply(w, l.Overview()) })
	mux.HandleFunc("GET /tables/{name}", func(w http.ResponseWriter, r *http.Request) {
		reply(w, row{Name: r.PathValue("name"), Free: l.Free(r.PathValue("name"))})
	})
	mux.HandleFunc("POST /tables/{name}/seat", func(w http.ResponseWriter, r *http.Request) {
		reply(w, l.Sit(r.PathValue("name"), r.URL.Query().Get("player")))
	})
	return mux
}

type visitor struct {
	id   int
	base string
	hc   *http.Client
}

func (v visitor) call(method, path string) {
	req, err := http.NewRequest(method, v.base+path, nil)
	if err != nil {
		return
	}
	resp, err := v.hc.Do(req)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func (v visitor) play() {
	for {
		v.call(http.MethodGet, "/tables")
		name := fmt.Sprintf("table-%02d", rand.IntN(60))
		v.call(http.MethodGet, "/tables/"+name)
		v.call(http.MethodPost, fmt.Sprintf("/tables/%s/seat?player=p%d", name, v.id))
		time.Sleep(time.Duration(10+rand.IntN(30)) * time.Millisecond)
	}
}

func main() {
	l := newLobby(60)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, l.routes())) }()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 40}}
	for i := range 40 {
		go visitor{id: i, base: "http://" + ln.Addr().String(), hc: hc}.play()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
