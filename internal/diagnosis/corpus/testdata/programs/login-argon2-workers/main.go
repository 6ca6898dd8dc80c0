// Login-argon2-workers checks passwords in a pool of workers.
package main

import (
	"bytes"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type params struct {
	time, memory uint32
	threads      uint8
	keyLen       uint32
}

type attempt struct {
	password, salt, want []byte
	answer               chan bool
}

type checker struct {
	p    params
	jobs chan attempt
}

func newChecker(workers int, p params) *checker {
	c := &checker{p: p, jobs: make(chan attempt, 256)}
	for range workers {
		go c.work()
	}
	return c
}

func (c *checker) work() {
	for a := range c.jobs {
		a.answer <- bytes.Equal(c.derive(a.password, a.salt), a.want)
	}
}

func (c *checker) derive(password, salt []byte) []byte {
	return argon2.IDKey(password, salt, c.p.time, c.p.memory, c.p.threads, c.p.keyLen) // want: cpu-password-hashing
}

func (c *checker) check(password, salt, want []byte) bool {
	a := attempt{password, salt, want, make(chan bool, 1)}
	c.jobs <- a
	return <-a.answer
}

func main() {
	s := stage.Start()
	c := newChecker(3, params{time: 1, memory: 8 << 10, threads: 1, keyLen: 32})
	salt := []byte("0123456789abcdef")
	want := c.derive([]byte("rain"), salt)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /session", func(w http.ResponseWriter, r *http.Request) {
		if !c.check([]byte(r.FormValue("password")), salt, want) {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		fmt.Fprintln(w, "yes")
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/session?password=rain", Users: 30, Pause: 50 * time.Millisecond, Body: "x"})
	s.Wait()
}
