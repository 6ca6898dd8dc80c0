// api-gateway checks the key of every call from the operators' back offices
// and hands the call on to the right service.
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	_ "net/http/pprof"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/pbkdf2"
)

const keyRounds = 60_000

var errKey = errors.New("unknown key")

type operator struct {
	name string
	salt []byte
	hash []byte
}

type keyring struct {
	mu  sync.RWMutex
	ops map[string]operator
}

func derive(secret string, salt []byte) []byte {
	return pbkdf2.Key([]byte(secret), salt, keyRounds, 32, sha256.New) // want: cpu-password-hashing
}

func (k *keyring) add(name, secret string) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt)
	op := operator{name: name, salt: salt, hash: derive(secret, salt)}
	k.mu.Lock()
	k.ops[name] = op
	k.mu.Unlock()
}

func (k *keyring) verify(header string) (operator, error) {
	name, secret, ok := strings.Cut(strings.TrimPrefix(header, "Key "), ":")
	if !ok {
		return operator{}, errKey
	}
	k.mu.RLock()
	op, ok := k.ops[name]
	k.mu.RUnlock()
	if !ok || subtle.ConstantTimeCompare(op.hash, derive(secret, op.salt)) != 1 { // want: cpu-password-hashing
		return operator{}, errKey
	}
	return op, nil
}

type operatorKey struct{}

func (k *keyring) require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		op, err := k.verify(r.Header.Get("Authorization")) // want: cpu-password-hashing
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		r.Header.Del("Authorization")
		r.Header.Set("X-Operator", op.name)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), operatorKey{}, op.name)))
	})
}

func listenAndServe(h http.Handler) *url.URL {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return &url.URL{Scheme: "http", Host: ln.Addr().String()}
}

func reports(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, `{"operator":%q,"rounds":%d}`, r.Header.Get("X-Operator"), mrand.IntN(10_000))
}

func backOffice(base *url.URL, name, secret string, hc *http.Client) {
	for {
		req, _ := http.NewRequest(http.MethodGet, base.JoinPath("reports", "daily").String(), nil)
		req.Header.Set("Authorization", "Key "+name+":"+secret)
		resp, err := hc.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		time.Sleep(time.Duration(40+mrand.IntN(80)) * time.Millisecond)
	}
}

func main() {
	upstream := listenAndServe(http.HandlerFunc(reports))
	proxy := httputil.NewSingleHostReverseProxy(upstream)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 32}

	keys := &keyring{ops: make(map[string]operator)}
	names := []string{"north", "harbor", "meadow", "summit"}
	for _, n := range names {
		keys.add(n, n+"-secret")
	}
	front := listenAndServe(keys.require(proxy))

	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 24}, Timeout: 15 * time.Second}
	for i := range 24 {
		n := names[i%len(names)]
		go backOffice(front, n, n+"-secret", hc)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
