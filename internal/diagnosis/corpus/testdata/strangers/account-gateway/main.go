package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/argon2"
)

// Credential is what the account table keeps for a player.
type Credential struct {
	PlayerID int64
	Salt     []byte
	Digest   []byte
}

type CredentialStore struct {
	mu     sync.RWMutex
	byName map[string]Credential
}

func (s *CredentialStore) Find(name string) (Credential, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, ok := s.byName[name]
	return c, ok
}

func (s *CredentialStore) Put(name string, c Credential) {
	s.mu.Lock()
	s.byName[name] = c
	s.mu.Unlock()
}

// Verifier checks a presented secret against the stored digest.
type Verifier struct {
	Passes uint32
	Memory uint32
	Lanes  uint8
}

func (v *Verifier) digest(secret string, salt []byte) []byte {
	return argon2.IDKey([]byte(secret), salt, v.Passes, v.Memory, v.Lanes, 32)
}

func (v *Verifier) Matches(c Credential, secret string) bool {
	return subtle.ConstantTimeCompare(v.digest(secret, c.Salt), c.Digest) == 1
}

type Ticket struct {
	PlayerID int64     `json:"player_id"`
	Token    string    `json:"token"`
	Expires  time.Time `json:"expires"`
}

var errRejected = errors.New("credentials rejected")

type SignInService struct {
	store    *CredentialStore
	verifier *Verifier
	signer   []byte
}

func (s *SignInService) SignIn(ctx context.Context, name, secret string) (Ticket, error) {
	cred, ok := s.store.Find(name)
	if !ok || !s.verifier.Matches(cred, secret) {
		return Ticket{}, errRejected
	}
	return s.issue(cred), nil
}

func (s *SignInService) issue(c Credential) Ticket {
	exp := time.Now().Add(time.Hour)
	m := hmac.New(sha256.New, s.signer)
	fmt.Fprintf(m, "%d|%d", c.PlayerID, exp.Unix())
	return Ticket{PlayerID: c.PlayerID, Token: base64.RawURLEncoding.EncodeToString(m.Sum(nil)), Expires: exp}
}

type signInHandler struct{ svc *SignInService }

func (h signInHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Name   string `json:"name"`
		Secret string `json:"secret"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	t, err := h.svc.SignIn(r.Context(), req.Name, req.Secret)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(t)
}

func main() {
	// agent-hook
	runtime.GOMAXPROCS(2) // two-core pod
	startDiagnostics()

	verifier := &Verifier{Passes: 2, Memory: 19 * 1024, Lanes: 1}
	store := &CredentialStore{byName: map[string]Credential{}}
	for i := range 12 {
		salt := []byte(fmt.Sprintf("salt-%011d", i))
		store.Put(fmt.Sprintf("player%02d", i), Credential{PlayerID: int64(9000 + i), Salt: salt, Digest: verifier.digest("opensesame", salt)})
	}
	svc := &SignInService{store: store, verifier: verifier, signer: []byte("dev-signing-key")}

	mux := http.NewServeMux()
	mux.Handle("POST /v1/sign-in", signInHandler{svc})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, mux)
	log.Printf("account gateway on %s", ln.Addr())

	for range 6 {
		go playerTraffic("http://" + ln.Addr().String())
	}
	awaitShutdown()
}

func playerTraffic(base string) {
	for {
		body := fmt.Sprintf(`{"name":"player%02d","secret":"opensesame"}`, rand.IntN(12))
		resp, err := http.Post(base+"/v1/sign-in", "application/json", strings.NewReader(body))
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
	}
}

func startDiagnostics() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	go func() {
		if err := http.ListenAndServe(addr, nil); err != nil {
			log.Printf("diagnostics listener: %v", err)
		}
	}()
}

func awaitShutdown() {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, os.Interrupt)
	<-sig
	log.Print("shutting down")
}
