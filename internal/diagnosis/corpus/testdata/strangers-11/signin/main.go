package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	mrand "math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

type userStore interface {
	secret(name string) ([]byte, error)
}

type memoryUsers map[string][]byte

var errNoUser = errors.New("no such user")

func (m memoryUsers) secret(name string) ([]byte, error) {
	if s, ok := m[name]; ok {
		return s, nil
	}
	return nil, errNoUser
}

type tokens struct {
	mu   sync.RWMutex
	ttl  time.Duration
	live map[string]grant
}

type grant struct {
	user  string
	until time.Time
}

func (t *tokens) issue(user string) string {
	var raw [20]byte
	_, _ = rand.Read(raw[:])
	tok := hex.EncodeToString(raw[:])
	t.mu.Lock()
	t.live[tok] = grant{user, time.Now().Add(t.ttl)}
	t.mu.Unlock()
	return tok
}

func (t *tokens) user(tok string) (string, bool) {
	t.mu.RLock()
	g, ok := t.live[tok]
	t.mu.RUnlock()
	return g.user, ok && time.Now().Before(g.until)
}

func (t *tokens) sweep() {
	for now := range time.Tick(2 * time.Second) {
		t.mu.Lock()
		for k, g := range t.live {
			if now.After(g.until) {
				delete(t.live, k)
			}
		}
		t.mu.Unlock()
	}
}

type door struct {
	users  userStore
	tokens *tokens
	slots  chan struct{}
}

func (d *door) login(w http.ResponseWriter, r *http.Request) {
	var in struct{ User, Password string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, "body", http.StatusBadRequest)
		return
	}
	hash, err := d.users.secret(in.User)
	if err != nil {
		http.Error(w, "denied", http.StatusUnauthorized)
		return
	}
	d.slots <- struct{}{}
	err = bcrypt.CompareHashAndPassword(hash, []byte(in.Password))
	<-d.slots
	if err != nil {
		http.Error(w, "denied", http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(w, d.tokens.issue(in.User))
}

func (d *door) authenticated(next func(w http.ResponseWriter, r *http.Request, user string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		tok, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		user, ok := d.tokens.user(tok)
		if !ok {
			http.Error(w, "token", http.StatusUnauthorized)
			return
		}
		next(w, r, user)
	}
}

func request(method, url, tok, body string) (string, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+tok)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	return string(out), err
}

func main() {
	users := memoryUsers{}
	for i := range 8 {
		h, err := bcrypt.GenerateFromPassword(fmt.Appendf(nil, "pw-%d", i), bcrypt.DefaultCost)
		if err != nil {
			log.Fatal(err)
		}
		users[fmt.Sprintf("user%d", i)] = h
	}
	d := &door{users, &tokens{ttl: 30 * time.Second, live: map[string]grant{}}, make(chan struct{}, 1)}
	go d.tokens.sweep()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", d.login)
	mux.HandleFunc("GET /me", d.authenticated(func(w http.ResponseWriter, _ *http.Request, user string) { _, _ = io.WriteString(w, user) }))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	base := "http://" + ln.Addr().String()
	for i := range 8 {
		go func() {
			time.Sleep(time.Duration(i) * 500 * time.Millisecond)
			for {
				tok, err := request("POST", base+"/login", "", fmt.Sprintf(`{"user":"user%d","password":"pw-%d"}`, i, i))
				for n := 0; n < 60 && err == nil; n++ {
					time.Sleep(50*time.Millisecond + mrand.N(30*time.Millisecond))
					_, err = request("GET", base+"/me", tok, "")
				}
				if err != nil {
					log.Print(err)
					time.Sleep(time.Second)
				}
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
