// Command ok-login-door logs players in: a password check at the door, a
// signed token from there on.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/opscenter/opscenter/agent"
)

var errLogin = errors.New("wrong name or password")

type Accounts struct {
	hashes map[string][]byte
	slots  chan struct{}
}

// Verify checks a password; at most one check per slot runs at a time.
func (a *Accounts) Verify(ctx context.Context, name, password string) error {
	h, ok := a.hashes[name]
	if !ok {
		return errLogin
	}
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if bcrypt.CompareHashAndPassword(h, []byte(password)) != nil {
		return errLogin
	}
	return nil
}

// Tokens signs and checks session tokens.
type Tokens struct{ key []byte }

func (t Tokens) mac(s string) string {
	m := hmac.New(sha256.New, t.key)
	_, _ = io.WriteString(m, s)
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func (t Tokens) Issue(name string) string {
	s := fmt.Sprintf("%s.%d", name, time.Now().Add(time.Hour).Unix())
	return s + "." + t.mac(s)
}

func (t Tokens) Check(token string) (string, bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 || !hmac.Equal([]byte(t.mac(token[:i])), []byte(token[i+1:])) {
		return "", false
	}
	name, _, ok := strings.Cut(token, ".")
	return name, ok
}

type API struct {
	accounts *Accounts
	tokens   Tokens
}

func (a *API) login(w http.ResponseWriter, r *http.Request) {
	name, password, _ := r.BasicAuth()
	if err := a.accounts.Verify(r.Context(), name, password); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"token": a.tokens.Issue(name)})
}

func (a *API) profile(w http.ResponseWriter, r *http.Request) {
	name, ok := a.tokens.Check(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if !ok {
		http.Error(w, "log in first", http.StatusUnauthorized)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"name": name, "chips": rand.IntN(1e4)})
}

type visitor struct {
	name, base string
	client     *http.Client
}

func (v *visitor) do(ctx context.Context, path string, auth func(*http.Request), out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+path, nil)
	if err != nil {
		return err
	}
	auth(req)
	resp, err := v.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(out)
}

// session logs in once and then looks at the profile for a while.
func (v *visitor) session(ctx context.Context) error {
	var tok struct{ Token string }
	if err := v.do(ctx, "/login", func(r *http.Request) { r.SetBasicAuth(v.name, "pw-"+v.name) }, &tok); err != nil {
		return err
	}
	for range 300 {
		var p struct{ Name string }
		if err := v.do(ctx, "/profile", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+tok.Token) }, &p); err != nil {
			return err
		}
		time.Sleep(time.Duration(10+rand.IntN(30)) * time.Millisecond)
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
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
	defer a.Close()

	acc := &Accounts{hashes: map[string][]byte{}, slots: make(chan struct{}, 1)}
	api := &API{accounts: acc, tokens: Tokens{key: []byte("door")}}
	mux := http.NewServeMux()
	mux.HandleFunc("/login", api.login)
	mux.HandleFunc("/profile", api.profile)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: mux}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 20}, Timeout: 10 * time.Second}
	var vs []*visitor
	for i := range 12 {
		name := fmt.Sprintf("player%d", i)
		if acc.hashes[name], err = bcrypt.GenerateFromPassword([]byte("pw-"+name), bcrypt.DefaultCost); err != nil {
			log.Fatal(err)
		}
		vs = append(vs, &visitor{name: name, base: "http://" + ln.Addr().String(), client: client})
	}
	go func() { _ = srv.Serve(ln) }()
	for i, v := range vs {
		go func() {
			time.Sleep(time.Duration(i) * 600 * time.Millisecond)
			for ctx.Err() == nil {
				if err := v.session(ctx); err != nil && ctx.Err() == nil {
					log.Print(err)
					time.Sleep(time.Second)
				}
			}
		}()
	}
	<-ctx.Done()
	_ = srv.Close()
}
