// login-service checks passwords and gives out session tokens.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	mrand "math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/semaphore"
)

var errDenied = errors.New("denied")

type accounts struct {
	hashes map[string][]byte
	slots  *semaphore.Weighted
}

func newAccounts(n int) (*accounts, error) {
	a := &accounts{hashes: make(map[string][]byte, n), slots: semaphore.NewWeighted(2)}
	h, err := bcrypt.GenerateFromPassword([]byte("correct horse"), bcrypt.DefaultCost)
	if err != nil {
		return nil, err
	}
	for i := range n {
		a.hashes[fmt.Sprintf("user%d", i)] = h
	}
	return a, nil
}

// check compares in one of two slots, so that logins never take more.
func (a *accounts) check(ctx context.Context, user, password string) error {
	h, ok := a.hashes[user]
	if !ok {
		return errDenied
	}
	if err := a.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer a.slots.Release(1)
	if bcrypt.CompareHashAndPassword(h, []byte(password)) != nil {
		return errDenied
	}
	return nil
}

type tokens struct{ key []byte }

func (t tokens) sign(payload string) []byte {
	m := hmac.New(sha256.New, t.key)
	m.Write([]byte(payload))
	return m.Sum(nil)
}

func (t tokens) issue(user string, now time.Time) string {
	p := fmt.Sprintf("%s.%d", user, now.Add(time.Hour).Unix())
	return p + "." + base64.RawURLEncoding.EncodeToString(t.sign(p))
}

func (t tokens) user(token string) (string, error) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return "", errDenied
	}
	sig, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil || !hmac.Equal(sig, t.sign(token[:i])) {
		return "", errDenied
	}
	user, _, _ := strings.Cut(token, ".")
	return user, nil
}

func handler(a *accounts, t tokens) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		user := r.FormValue("user")
		if err := a.check(r.Context(), user, r.FormValue("password")); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"token": t.issue(user, time.Now())})
	})
	mux.HandleFunc("GET /me", func(w http.ResponseWriter, r *http.Request) {
		user, err := t.user(r.Header.Get("X-Token"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"user":%q}`, user)
	})
	return mux
}

func main() {
	a, err := newAccounts(5000)
	if err != nil {
		log.Fatal(err)
	}
	t := tokens{key: make([]byte, 32)}
	_, _ = rand.Read(t.key)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, handler(a, t))) }()
	base := "http://" + ln.Addr().String()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 5 * time.Second}
	drain := func(resp *http.Response, err error) {
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	go func() {
		for range time.Tick(400 * time.Millisecond) {
			drain(hc.PostForm(base+"/login", url.Values{"user": {fmt.Sprintf("user%d", mrand.IntN(5000))}, "password": {"correct horse"}}))
		}
	}()
	for i := range 10 {
		token := t.issue(fmt.Sprintf("user%d", i), time.Now())
		go func() {
			for range time.Tick(50 * time.Millisecond) {
				req, _ := http.NewRequest(http.MethodGet, base+"/me", nil)
				req.Header.Set("X-Token", token)
				drain(hc.Do(req))
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
