// Ok-login checks a password now and then.
package main

import (
	"net/http"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

func main() {
	s := stage.Start()
	hash, err := bcrypt.GenerateFromPassword([]byte("rain"), 10)
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		if bcrypt.CompareHashAndPassword(hash, []byte(r.FormValue("password"))) != nil {
			http.Error(w, "no", http.StatusUnauthorized)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/login?password=rain", Users: 1, Pause: 600 * time.Millisecond})
	s.Wait()
}
