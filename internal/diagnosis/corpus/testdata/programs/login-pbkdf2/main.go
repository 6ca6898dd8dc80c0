// Login-pbkdf2 verifies tokens with the standard library's PBKDF2.
package main

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"hash"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

// scheme derives keys with any hash.
type scheme[H hash.Hash] struct {
	fresh      func() H
	iterations int
}

func (s scheme[H]) key(secret string, salt []byte) ([]byte, error) {
	return pbkdf2.Key(s.fresh, secret, salt, s.iterations, 32) // want: cpu-password-hashing
}

func main() {
	s := stage.Start()
	sch := scheme[hash.Hash]{sha256.New, 60_000}
	salt := []byte("pepper and salt")
	want, err := sch.key("rain", salt)
	if err != nil {
		panic(err)
	}
	guard := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			got, err := sch.key(r.Header.Get("X-Secret")+r.FormValue("secret"), salt)
			if err != nil || !hmac.Equal(got, want) {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			next(w, r)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/state", guard(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("fine")) }))
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/state?secret=rain", Users: 12, Pause: 20 * time.Millisecond})
	s.Wait()
}
