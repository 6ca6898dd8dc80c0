// Command signin-portal answers the sign-in form of the game's launcher.
package main

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"sync"
	"time"
)

type credential struct {
	salt, sum []byte
}

type vault struct {
	rounds int
	mu     sync.RWMutex
	rows   map[string]credential
}

var errDenied = errors.New("name or password is wrong")

func (v *vault) derive(pw string, salt []byte) ([]byte, error) {
	return pbkdf2.Key(sha256.New, pw, salt, v.rounds, 32) // want: cpu-password-hashing
}

func (v *vault) enrol(name, pw string) error {
	salt := make([]byte, 16)
	rand.Read(salt)
	sum, err := v.derive(pw, salt)
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.rows[name] = credential{salt, sum}
	v.mu.Unlock()
	return nil
}

func (v *vault) verify(name, pw string) error {
	v.mu.RLock()
	c, ok := v.rows[name]
	v.mu.RUnlock()
	if !ok {
		return errDenied
	}
	sum, err := v.derive(pw, c.salt) // want: cpu-password-hashing
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(sum, c.sum) != 1 {
		return errDenied
	}
	return nil
}

type signIn struct{ Name, Password string }
type ticket struct{ Token string }

type portal struct{ vault *vault }

func (p *portal) signIn(_ context.Context, in signIn) (ticket, error) {
	if err := p.vault.verify(in.Name, in.Password); err != nil {
		return ticket{}, err
	}
	raw := make([]byte, 24)
	rand.Read(raw)
	return ticket{base64.RawURLEncoding.EncodeToString(raw)}, nil
}

func jsonCall[In, Out any](f func(context.Context, In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := f(r.Context(), in)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		json.NewEncoder(w).Encode(out)
	})
}

type middleware func(http.Handler) http.Handler

func chain(h http.Handler, ms ...middleware) http.Handler {
	for i := len(ms) - 1; i >= 0; i-- {
		h = ms[i](h)
	}
	return h
}

func limitBody(n int64) middleware {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, n)
			next.ServeHTTP(w, r)
		})
	}
}

func noStore(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func launcher(url, name, pw string) {
	body, _ := json.Marshal(signIn{name, pw})
	for {
		began := time.Now()
		res, err := http.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			log.Print(err)
			time.Sleep(time.Second)
			continue
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		time.Sleep(time.Since(began) * 22 / 10)
	}
}

func main() {
	runtime.SetBlockProfileRate(100_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	v := &vault{rounds: 3_000_000, rows: map[string]credential{}}
	mux := http.NewServeMux()
	mux.Handle("POST /sign-in", chain(jsonCall((&portal{v}).signIn), limitBody(4<<10), noStore))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	for i := range 6 {
		go func() {
			name, pw := fmt.Sprintf("player%03d", i), fmt.Sprintf("hunter-%d", i)
			if err := v.enrol(name, pw); err != nil {
				log.Fatal(err)
			}
			launcher("http://"+l.Addr().String()+"/sign-in", name, pw)
		}()
	}
	select {}
}
