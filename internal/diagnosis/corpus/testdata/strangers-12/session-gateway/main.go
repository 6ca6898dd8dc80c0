// Command session-gateway keeps one TCP session per player: a lobby snapshot
// on login, small deltas afterwards.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync"
	"time"
)

type Table struct {
	ID      int      `json:"id"`
	Game    string   `json:"game"`
	Seats   []string `json:"seats"`
	Jackpot int64    `json:"jackpot"`
	Rules   string   `json:"rules"`
}

type Delta struct {
	Table   int   `json:"table"`
	Jackpot int64 `json:"jackpot"`
	At      int64 `json:"at"`
}

type Lobby struct {
	mu     sync.RWMutex
	tables []Table
}

func NewLobby(n int) *Lobby {
	l := &Lobby{}
	for i := range n {
		l.tables = append(l.tables, Table{ID: i, Game: "baccarat", Seats: []string{"a", "b", "c"}, Rules: strings.Repeat("banker wins ties; ", 20)})
	}
	return l
}

func (l *Lobby) Snapshot() []Table {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return append([]Table(nil), l.tables...)
}

func (l *Lobby) Bump() Delta {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.tables[rand.IntN(len(l.tables))]
	t.Jackpot += 5
	return Delta{Table: t.ID, Jackpot: t.Jackpot, At: time.Now().UnixMilli()}
}

// Session frames messages for one player; its scratch buffer is reused so
// that a delta costs no allocation.
type Session struct {
	Player  string
	conn    net.Conn
	scratch bytes.Buffer
}

func (s *Session) send(v any) error {
	s.scratch.Reset()                                             // want: retained-objects
	if err := json.NewEncoder(&s.scratch).Encode(v); err != nil { // want: retained-objects
		return err
	}
	_, err := s.conn.Write(s.scratch.Bytes())
	return err
}

func (s *Session) run(l *Lobby, done func()) {
	defer done()
	if err := s.send(l.Snapshot()); err != nil {
		return
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if err := s.send(l.Bump()); err != nil {
			return
		}
	}
}

type Gateway struct {
	lobby    *Lobby
	mu       sync.Mutex
	sessions map[string]*Session
}

func (g *Gateway) accept(c net.Conn) {
	br := bufio.NewReaderSize(c, 128)
	name, err := br.ReadString('\n')
	if err != nil {
		c.Close()
		return
	}
	s := &Session{Player: strings.TrimSpace(name), conn: c}
	g.mu.Lock()
	g.sessions[s.Player] = s
	g.mu.Unlock()
	s.run(g.lobby, func() {
		g.mu.Lock()
		delete(g.sessions, s.Player)
		g.mu.Unlock()
		c.Close()
	})
}

func (g *Gateway) listen() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go g.accept(c)
		}
	}()
	return ln.Addr().String()
}

func play(addr string, id int) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprintf(c, "player-%d\n", id)
	_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 4096))
}

func refreshWebLobby(url string) {
	resp, err := http.Get(url)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	var tables []Table
	_ = json.NewDecoder(resp.Body).Decode(&tables)
}

func main() {
	g := &Gateway{lobby: NewLobby(2200), sessions: map[string]*Session{}}
	addr := g.listen()
	http.HandleFunc("GET /lobby", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(g.lobby.Snapshot())
	})
	go func() {
		for range time.Tick(100 * time.Millisecond) {
			refreshWebLobby("http://" + os.Getenv("PPROF_ADDR") + "/lobby")
		}
	}()
	go func() {
		for i := range 180 {
			go play(addr, i)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
