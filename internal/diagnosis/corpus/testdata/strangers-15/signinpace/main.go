// signinpace verifies passwords with a bounded number of hashers.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
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

var (
	errBusy   = errors.New("too many sign-ins")
	errDenied = errors.New("denied")
)

type Verifier struct {
	slots  *semaphore.Weighted
	hashes map[string][]byte
}

func NewVerifier(slots int64, players int) (*Verifier, error) {
	v := &Verifier{slots: semaphore.NewWeighted(slots), hashes: map[string][]byte{}}
	for i := range players {
		h, err := bcrypt.GenerateFromPassword([]byte("hunter2"), bcrypt.DefaultCost)
		if err != nil {
			return nil, err
		}
		v.hashes[fmt.Sprintf("player-%d", i)] = h
	}
	return v, nil
}

func (v *Verifier) Verify(ctx context.Context, name, password string) error {
	ctx, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
	defer cancel()
	if err := v.slots.Acquire(ctx, 1); err != nil {
		return errBusy
	}
	defer v.slots.Release(1)
	hash, ok := v.hashes[name]
	if !ok || bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil {
		return errDenied
	}
	return nil
}

func (v *Verifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch err := v.Verify(r.Context(), r.FormValue("name"), r.FormValue("password")); {
	case errors.Is(err, errBusy):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, err.Error(), http.StatusUnauthorized)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	v, err := NewVerifier(2, 6)
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, v)) }()

	client := &http.Client{Timeout: 2 * time.Second}
	signIn := func() {
		form := url.Values{"name": {fmt.Sprintf("player-%d", rand.IntN(6))}, "password": {"hunter2"}}
		resp, err := client.Post("http://"+ln.Addr().String(), "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
		if err != nil {
			log.Print(err)
			return
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			log.Print(resp.Status)
		}
	}
	for range time.Tick(400 * time.Millisecond) {
		go signIn()
	}
}
