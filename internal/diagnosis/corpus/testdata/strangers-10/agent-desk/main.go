package main

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	rounds = 60_000
	width  = 32
)

type agent struct {
	name   string
	salt   []byte
	digest []byte
	seen   time.Time
	calls  int
}

type directory struct {
	mu     sync.Mutex
	agents map[string]*agent
}

var errDenied = errors.New("denied")

func (d *directory) enroll(name, pin string) error {
	salt := []byte("desk:" + name)
	sum, err := pbkdf2.Key(sha512.New, pin, salt, rounds, width)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.agents[name] = &agent{name: name, salt: salt, digest: sum}
	d.mu.Unlock()
	return nil
}

func (d *directory) lookup(name, pin string, at time.Time) (*agent, error) {
	d.mu.Lock() // want: lock-contention
	defer d.mu.Unlock()
	a, ok := d.agents[name]
	if !ok {
		return nil, errDenied
	}
	if err := a.matches(pin); err != nil { // want: lock-contention
		return nil, err
	}
	a.seen = at
	a.calls++
	return a, nil
}

func (a *agent) matches(pin string) error {
	sum, err := pbkdf2.Key(sha512.New, pin, a.salt, rounds, width) // want: cpu-password-hashing
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(sum, a.digest) != 1 {
		return errDenied
	}
	return nil
}

type agentKey struct{}

func (d *directory) required(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, pin, ok := r.BasicAuth()
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		a, err := d.lookup(name, pin, time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), agentKey{}, a.name)))
	})
}

func tickets(w http.ResponseWriter, r *http.Request) {
	who, _ := r.Context().Value(agentKey{}).(string)
	var b strings.Builder
	for i := range 10 {
		fmt.Fprintf(&b, "%s:%04d\n", who, i)
	}
	io.WriteString(w, b.String())
}

func console(c *http.Client, url, name string) {
	for {
		req, _ := http.NewRequest(http.MethodGet, url, nil)
		req.SetBasicAuth(name, "pin-"+name)
		res, err := c.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		time.Sleep(time.Duration(20+rand.IntN(40)) * time.Millisecond)
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()

	dir := &directory{agents: map[string]*agent{}}
	var names []string
	for i := range 16 {
		n := fmt.Sprintf("agent%02d", i)
		if err := dir.enroll(n, "pin-"+n); err != nil {
			log.Fatal(err)
		}
		names = append(names, n)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /tickets", dir.required(http.HandlerFunc(tickets))) // want: cpu-password-hashing
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	for _, n := range names {
		go console(c, "http://"+l.Addr().String()+"/tickets", n)
	}
	select {}
}
