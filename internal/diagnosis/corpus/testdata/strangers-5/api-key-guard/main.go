package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
	"golang.org/x/crypto/bcrypt"
)

type studio struct {
	ID     string
	Digest []byte
}

type keyring struct {
	mu      sync.RWMutex
	studios map[string]studio
}

func (k *keyring) lookup(id string) (studio, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	s, ok := k.studios[id]
	return s, ok
}

type verifier func(r *http.Request) (studio, error)

func chain(h http.Handler, mw ...func(http.Handler) http.Handler) http.Handler {
	for i := len(mw) - 1; i >= 0; i-- {
		h = mw[i](h)
	}
	return h
}

var errDenied = errors.New("denied")

func byAPIKey(k *keyring) verifier {
	return func(r *http.Request) (studio, error) {
		id, secret, ok := r.BasicAuth()
		if !ok {
			return studio{}, errDenied
		}
		s, ok := k.lookup(id)
		if !ok {
			return studio{}, errDenied
		}
		if err := bcrypt.CompareHashAndPassword(s.Digest, []byte(secret)); err != nil { // want: cpu-password-hashing
			return studio{}, errDenied
		}
		return s, nil
	}
}

type studioKey struct{}

func authenticated(v verifier) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := v(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), studioKey{}, s.ID)))
		})
	}
}

func submitScore(w http.ResponseWriter, r *http.Request) {
	id, _ := r.Context().Value(studioKey{}).(string)
	_ = json.NewEncoder(w).Encode(map[string]any{"studio": id, "accepted": true, "score": r.URL.Query().Get("score")})
}

func gameServer(ctx context.Context, url, id string) {
	c := &http.Client{Timeout: 5 * time.Second}
	for n := 0; ctx.Err() == nil; n++ {
		req, _ := http.NewRequestWithContext(ctx, "POST", url+"/score?score="+strconv.Itoa(n), nil)
		req.SetBasicAuth(id, "key-"+id)
		if resp, err := c.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		time.Sleep(40 * time.Millisecond)
	}
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	ring := &keyring{studios: map[string]studio{}}
	for i := 0; i < 4; i++ {
		id := fmt.Sprintf("studio-%d", i)
		d, err := bcrypt.GenerateFromPassword([]byte("key-"+id), 10)
		if err != nil {
			log.Fatal(err)
		}
		ring.studios[id] = studio{ID: id, Digest: d}
	}
	mux := http.NewServeMux()
	mux.Handle("/score", chain(http.HandlerFunc(submitScore), authenticated(byAPIKey(ring))))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, mux)
	for i := 0; i < 3; i++ {
		go gameServer(ctx, "http://"+ln.Addr().String(), fmt.Sprintf("studio-%d", i))
	}
	<-ctx.Done()
}
