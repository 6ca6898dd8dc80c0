// Command ok-login-quiet lets players in; most calls carry a session already.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
	"golang.org/x/crypto/bcrypt"
)

// Checker proves who a player is.
type Checker interface {
	Check(user, secret string) error
}

type passwords struct{ hash map[string][]byte }

var errUnknown = errors.New("unknown player")

func (p passwords) Check(user, secret string) error {
	h, ok := p.hash[user]
	if !ok {
		return errUnknown
	}
	return bcrypt.CompareHashAndPassword(h, []byte(secret))
}

// ---- sessions ----

type Sessions struct {
	mu  sync.RWMutex
	by  map[string]string
	old []string
	max int
}

func (s *Sessions) open(user string) string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	id := hex.EncodeToString(b[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by[id] = user
	if s.old = append(s.old, id); len(s.old) > s.max {
		delete(s.by, s.old[0])
		s.old = s.old[1:]
	}
	return id
}

func (s *Sessions) user(id string) (string, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	u, ok := s.by[id]
	return u, ok
}

// ---- routes ----

func withSession(s *Sessions, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, ok := s.user(r.Header.Get("Session")); !ok {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

func routes(c Checker, s *Sessions) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		if err := c.Check(r.FormValue("user"), r.FormValue("secret")); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		fmt.Fprint(w, s.open(r.FormValue("user")))
	})
	mux.HandleFunc("GET /me", withSession(s, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "in the lobby")
	}))
	return mux
}

func get(hc *http.Client, url, session string) string {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return ""
	}
	req.Header.Set("Session", session)
	resp, err := hc.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// observe serves the profiles and joins the centre.
func observe() *agent.Agent {
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	return a
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	a := observe()
	defer a.Close()

	h, err := bcrypt.GenerateFromPassword([]byte("open sesame"), 10)
	if err != nil {
		log.Fatal(err)
	}
	url := serve(routes(passwords{map[string][]byte{"fox": h, "owl": h, "elk": h}}, &Sessions{by: map[string]string{}, max: 500}))
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	for _, user := range []string{"fox", "owl", "elk"} {
		go func() {
			for ctx.Err() == nil {
				id := get(hc, url+"/login?user="+user+"&secret=open+sesame", "")
				for range 25 {
					get(hc, url+"/me", id)
					time.Sleep(time.Duration(80+mrand.IntN(80)) * time.Millisecond)
				}
			}
		}()
	}
	<-ctx.Done()
}
