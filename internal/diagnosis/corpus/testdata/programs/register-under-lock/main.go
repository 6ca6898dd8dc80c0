// Register-under-lock registers players.
package main

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type players struct {
	mu     sync.Mutex
	hashes map[string][]byte
}

func (p *players) register(name, password string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), 10) // want: cpu-password-hashing
	if err != nil {
		return err
	}
	p.hashes[name] = hash
	return nil
}

func (p *players) handle(w http.ResponseWriter, r *http.Request) {
	if err := p.register(r.FormValue("name"), r.FormValue("password")); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, "done")
}

func main() {
	s := stage.Start()
	p := &players{hashes: map[string][]byte{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/register", p.handle)
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/register?name=ada&password=rain", Users: 40, Pause: 20 * time.Millisecond})
	s.Wait()
}
