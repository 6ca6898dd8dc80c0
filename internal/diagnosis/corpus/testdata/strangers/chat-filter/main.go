package main

import (
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type Message struct {
	Room   int
	Author int64
	Text   string
}

// Policy is the list of words a room does not want to see.
type Policy struct {
	Words []string
	Mask  string
}

func (p Policy) scrub(text string) (string, int) {
	hits := 0
	for _, w := range p.Words {
		re := regexp.MustCompile(`(?i)\b` + regexp.QuoteMeta(w) + `(s|ed|ing)?\b`)
		text = re.ReplaceAllStringFunc(text, func(string) string {
			hits++
			return p.Mask
		})
	}
	return text, hits
}

type RoomPolicies struct {
	mu    sync.RWMutex
	rooms map[int]Policy
}

func (r *RoomPolicies) For(room int) Policy {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.rooms[room]
}

type Moderator struct {
	policies *RoomPolicies
	flagged  atomic.Int64
}

func (m *Moderator) Review(msg Message) Message {
	clean, hits := m.policies.For(msg.Room).scrub(msg.Text)
	if hits > 0 {
		m.flagged.Add(int64(hits))
	}
	msg.Text = clean
	return msg
}

type History struct {
	mu   sync.Mutex
	ring [256]Message
	next int
}

func (h *History) Append(m Message) {
	h.mu.Lock()
	h.ring[h.next%len(h.ring)] = m
	h.next++
	h.mu.Unlock()
}

type ChatService struct {
	mod     *Moderator
	history map[int]*History
}

func (c *ChatService) Post(msg Message) {
	c.history[msg.Room].Append(c.mod.Review(msg))
}

var phrases = []string{
	"gg wp everyone", "who wants to duo", "that noob scammed me again", "selling gold cheap",
	"nice clutch on the last round", "report the botting guy in blue", "brb dinner",
}

func talk(c *ChatService, author int64) {
	for {
		for range 50 {
			c.Post(Message{Room: rand.IntN(8), Author: author, Text: phrases[rand.IntN(len(phrases))] + " " + phrases[rand.IntN(len(phrases))]})
		}
		time.Sleep(time.Millisecond)
	}
}

func main() {
	// agent-hook
	runtime.GOMAXPROCS(2) // two-core pod
	startDiagnostics()
	words := strings.Fields("noob scam bot gold cheat hack boost trash idiot afk grief leech")
	rp := &RoomPolicies{rooms: map[int]Policy{}}
	svc := &ChatService{mod: &Moderator{policies: rp}, history: map[int]*History{}}
	for room := range 8 {
		rp.rooms[room] = Policy{Words: words, Mask: "***"}
		svc.history[room] = &History{}
	}
	for a := range 2 {
		go talk(svc, int64(a))
	}
	awaitShutdown()
}

func startDiagnostics() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	go func() {
		if err := http.ListenAndServe(addr, nil); err != nil {
			log.Printf("diagnostics listener: %v", err)
		}
	}()
}

func awaitShutdown() {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, os.Interrupt)
	<-sig
	log.Print("shutting down")
}
