package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/semaphore"
)

var errDenied = errors.New("wrong name or password")

type credentials struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

type session struct {
	name  string
	until time.Time
}

type sessions struct {
	mu   sync.RWMutex
	byID map[string]session
}

func (s *sessions) open(name string) string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	token := hex.EncodeToString(id[:])
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.byID {
		if now.After(v.until) {
			delete(s.byID, k)
		}
	}
	s.byID[token] = session{name: name, until: now.Add(5 * time.Second)}
	return token
}

func (s *sessions) who(token string) (string, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.byID[token]
	return v.name, ok && time.Now().Before(v.until)
}

type gate struct {
	hashes   map[string][]byte
	slots    *semaphore.Weighted
	sessions *sessions
}

func (g *gate) verify(ctx context.Context, c credentials) error {
	hash, ok := g.hashes[c.Name]
	if !ok {
		return errDenied
	}
	if err := g.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer g.slots.Release(1)
	if bcrypt.CompareHashAndPassword(hash, []byte(c.Password)) != nil {
		return errDenied
	}
	return nil
}

func (g *gate) login(w http.ResponseWriter, r *http.Request) {
	var c credentials
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := g.verify(r.Context(), c); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(w, g.sessions.open(c.Name))
}

func (g *gate) whoami(w http.ResponseWriter, r *http.Request) {
	name, ok := g.sessions.who(r.Header.Get("Authorization"))
	if !ok {
		http.Error(w, "no session", http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(w, name)
}

func visitor(base, name string, client *http.Client) {
	for {
		body, _ := json.Marshal(credentials{Name: name, Password: "pw-" + name})
		resp, err := client.Post(base+"/login", "application/json", bytes.NewReader(body))
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		token, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		for range 40 {
			req, _ := http.NewRequest(http.MethodGet, base+"/me", nil)
			req.Header.Set("Authorization", string(token))
			if resp, err := client.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func main() {
	const people = 10
	g := &gate{hashes: map[string][]byte{}, slots: semaphore.NewWeighted(2), sessions: &sessions{byID: map[string]session{}}}
	for i := range people {
		name := fmt.Sprintf("dealer-%02d", i)
		hash, err := bcrypt.GenerateFromPassword([]byte("pw-"+name), bcrypt.DefaultCost)
		if err != nil {
			log.Fatal(err)
		}
		g.hashes[name] = hash
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/login", g.login)
	mux.HandleFunc("/me", g.whoami)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: people}}
	go func() {
		for name := range g.hashes {
			go visitor("http://"+ln.Addr().String(), name, client)
			time.Sleep(400 * time.Millisecond)
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
