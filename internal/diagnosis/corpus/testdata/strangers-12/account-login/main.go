// Command account-login checks passwords on login and session tokens on every
// other request.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

var errDenied = errors.New("denied")

type Accounts struct {
	mu   sync.RWMutex
	hash map[string][]byte
}

func (a *Accounts) Register(player, password string) error {
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.hash[player] = h
	a.mu.Unlock()
	return nil
}

func (a *Accounts) Verify(player, password string) error {
	a.mu.RLock()
	h, ok := a.hash[player]
	a.mu.RUnlock()
	if !ok {
		return errDenied
	}
	return bcrypt.CompareHashAndPassword(h, []byte(password))
}

type Tokens struct{ secret []byte }

func (t Tokens) mac(player string) string {
	m := hmac.New(sha256.New, t.secret)
	io.WriteString(m, player)
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func (t Tokens) Issue(player string) string { return player + "." + t.mac(player) }

func (t Tokens) Check(token string) (string, error) {
	player, sig, ok := strings.Cut(token, ".")
	if !ok || !hmac.Equal([]byte(sig), []byte(t.mac(player))) {
		return "", errDenied
	}
	return player, nil
}

type API struct {
	accounts *Accounts
	tokens   Tokens
}

func (a *API) login(w http.ResponseWriter, r *http.Request) {
	player := r.PostFormValue("player")
	if err := a.accounts.Verify(player, r.PostFormValue("password")); err != nil {
		http.Error(w, "login failed", http.StatusUnauthorized)
		return
	}
	fmt.Fprint(w, a.tokens.Issue(player))
}

func (a *API) authed(next func(w http.ResponseWriter, player string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		player, err := a.tokens.Check(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		next(w, player)
	}
}

type client struct{ base string }

func (c client) login(player string) string {
	resp, err := http.PostForm(c.base+"/login", url.Values{"player": {player}, "password": {"pw-" + player}})
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	tok, _ := io.ReadAll(resp.Body)
	return string(tok)
}

func (c client) me(token string) {
	req, _ := http.NewRequest(http.MethodGet, c.base+"/me", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func main() {
	api := &API{accounts: &Accounts{hash: map[string][]byte{}}, tokens: Tokens{secret: []byte("k1")}}
	for i := range 8 {
		p := fmt.Sprintf("player%d", i)
		if err := api.accounts.Register(p, "pw-"+p); err != nil {
			log.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", api.login)
	mux.HandleFunc("GET /me", api.authed(func(w http.ResponseWriter, player string) { fmt.Fprintln(w, player) }))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()

	c := client{base: "http://" + ln.Addr().String()}
	go func() {
		for range time.Tick(900 * time.Millisecond) {
			c.login(fmt.Sprintf("player%d", rand.IntN(8)))
		}
	}()
	go func() {
		tok := api.tokens.Issue("player3")
		for range time.Tick(8 * time.Millisecond) {
			c.me(tok)
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
