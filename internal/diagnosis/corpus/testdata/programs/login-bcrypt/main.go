// Login-bcrypt checks passwords in an HTTP handler.
package main

import (
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type accounts struct{ byName map[string][]byte }

func (a *accounts) login(w http.ResponseWriter, r *http.Request) {
	name, password := r.FormValue("name"), r.FormValue("password")
	hash, ok := a.byName[name]
	if !ok {
		http.Error(w, "unknown", http.StatusNotFound)
		return
	}
	if err := bcrypt.CompareHashAndPassword(hash, []byte(password)); err != nil { // want: cpu-password-hashing
		http.Error(w, "wrong", http.StatusUnauthorized)
		return
	}
	fmt.Fprintln(w, "welcome", name)
}

func main() {
	s := stage.Start()
	hash, err := bcrypt.GenerateFromPassword([]byte("rain"), bcrypt.DefaultCost)
	if err != nil {
		panic(err)
	}
	a := &accounts{byName: map[string][]byte{"ada": hash}}
	mux := http.NewServeMux()
	mux.HandleFunc("/login", a.login)
	url := s.Serve(mux)
	s.Crowd(stage.Traffic{URL: url + "/login?name=ada&password=rain", Users: 16, Pause: 20 * time.Millisecond})
	s.Wait()
}
