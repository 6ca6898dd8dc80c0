// Pin-own-kdf checks the PINs of parents.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type vault struct{ pepper []byte }

func (v *vault) stretch(pin string) []byte {
	mac := hmac.New(sha256.New, v.pepper)
	sum := []byte(pin)
	for range 60_000 { // want: cpu-password-hashing
		mac.Reset()            // want: cpu-password-hashing
		mac.Write(sum)         // want: cpu-password-hashing
		sum = mac.Sum(sum[:0]) // want: cpu-password-hashing
	}
	return sum
}

func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if v.stretch(r.FormValue("pin"))[0] == 0 { // want: cpu-password-hashing
		w.WriteHeader(http.StatusForbidden)
	}
}

func main() {
	s := stage.Start()
	s.Crowd(stage.Traffic{URL: s.Serve(&vault{[]byte("pepper")}) + "/?pin=1234", Users: 12, Pause: 5 * time.Millisecond})
	s.Wait()
}
