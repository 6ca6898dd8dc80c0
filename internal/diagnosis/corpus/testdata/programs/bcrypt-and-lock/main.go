// Bcrypt-and-lock logs players in, and serves a table that is saved on every move.
package main

import (
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/testdata/programs/cache-redis/redis"
)

type accounts struct{ hash []byte }

func (a *accounts) login(w http.ResponseWriter, r *http.Request) {
	if bcrypt.CompareHashAndPassword(a.hash, []byte(r.FormValue("password"))) != nil { // want: cpu-password-hashing
		http.Error(w, "no", http.StatusUnauthorized)
	}
}

type table struct {
	mu    sync.Mutex
	moves int
	store *redis.Client
}

func (t *table) move(w http.ResponseWriter, _ *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moves++
	if _, err := t.store.Do("INCR", "moves"); err != nil { // want: lock-held-across-io
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

func main() {
	stage.Child("store", standin.Redis(standin.Always(20*time.Millisecond)))
	s := stage.Start()
	hash, err := bcrypt.GenerateFromPassword([]byte("rain"), 9)
	if err != nil {
		panic(err)
	}
	a, t := &accounts{hash}, &table{store: redis.New(s.Spawn("store"))}
	mux := http.NewServeMux()
	mux.HandleFunc("/login", a.login)
	mux.HandleFunc("/move", t.move)
	url := s.Serve(mux)
	s.Crowd(stage.Traffic{URL: url + "/login?password=rain", Users: 6, Pause: 10 * time.Millisecond})
	s.Crowd(stage.Traffic{URL: url + "/move", Users: 40, Pause: 10 * time.Millisecond})
	s.Wait()
}
