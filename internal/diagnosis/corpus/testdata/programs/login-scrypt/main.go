// Login-scrypt checks passwords behind three layers.
package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"time"

	"golang.org/x/crypto/scrypt"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type verifier interface {
	verify(stored credential, password string) error
}

type credential struct{ salt, key []byte }

var errMismatch = errors.New("password does not match")

type scryptVerifier struct{ n, r, p int }

func (v scryptVerifier) verify(stored credential, password string) error {
	key, err := scrypt.Key([]byte(password), stored.salt, v.n, v.r, v.p, len(stored.key)) // want: cpu-password-hashing
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(key, stored.key) == 0 {
		return errMismatch
	}
	return nil
}

type directory struct {
	v     verifier
	users map[string]credential
}

func (d *directory) authenticate(_ context.Context, name, password string) error {
	c, ok := d.users[name]
	if !ok {
		return errMismatch
	}
	return d.v.verify(c, password)
}

type api struct{ d *directory }

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, password, _ := r.BasicAuth()
	if name == "" {
		name, password = r.FormValue("name"), r.FormValue("password")
	}
	if err := a.d.authenticate(r.Context(), name, password); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	s := stage.Start()
	v := scryptVerifier{n: 1 << 13, r: 8, p: 1}
	salt := []byte("per user salt...")
	key, err := scrypt.Key([]byte("rain"), salt, v.n, v.r, v.p, 32)
	if err != nil {
		panic(err)
	}
	a := &api{&directory{v, map[string]credential{"ada": {salt, key}}}}
	s.Crowd(stage.Traffic{URL: s.Serve(a) + "/?name=ada&password=rain", Users: 12, Pause: 10 * time.Millisecond})
	s.Wait()
}
