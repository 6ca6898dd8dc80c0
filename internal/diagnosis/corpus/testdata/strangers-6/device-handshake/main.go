// Command device-handshake opens player sessions and checks the device secret
// that mobile clients bring along.
package main

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

var errDenied = errors.New("denied")

// Digest is a stored secret.
type Digest struct {
	Salt   []byte
	Rounds int
	Sum    []byte
}

// Scheme turns a secret into a digest and checks one.
type Scheme interface {
	Seal(secret string) (Digest, error)
	Matches(secret string, d Digest) bool
}

type stretched struct {
	rounds, size int
}

func (s stretched) derive(secret string, salt []byte, rounds int) ([]byte, error) {
	return pbkdf2.Key(sha256.New, secret, salt, rounds, s.size) // want: cpu-password-hashing
}

func (s stretched) Seal(secret string) (Digest, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt)
	sum, err := s.derive(secret, salt, s.rounds)
	return Digest{Salt: salt, Rounds: s.rounds, Sum: sum}, err
}

func (s stretched) Matches(secret string, d Digest) bool {
	sum, err := s.derive(secret, d.Salt, d.Rounds) // want: cpu-password-hashing
	return err == nil && subtle.ConstantTimeCompare(sum, d.Sum) == 1
}

type device struct {
	ID     string
	Player int
	Secret Digest
	Seen   time.Time
}

type deviceRepo struct {
	mu   sync.RWMutex
	byID map[string]*device
}

func (r *deviceRepo) Find(id string) (*device, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d, ok := r.byID[id]
	return d, ok
}

func (r *deviceRepo) Touch(id string) {
	r.mu.Lock()
	r.byID[id].Seen = time.Now()
	r.mu.Unlock()
}

// Guard is the middleware in front of everything a device may call.
type Guard struct {
	repo   *deviceRepo
	scheme Scheme
}

func (g *Guard) identify(r *http.Request) (*device, error) {
	id, secret, ok := r.BasicAuth()
	if !ok {
		return nil, errDenied
	}
	d, ok := g.repo.Find(id)
	if !ok || !g.scheme.Matches(secret, d.Secret) { // want: cpu-password-hashing
		return nil, errDenied
	}
	return d, nil
}

type deviceKey struct{}

func (g *Guard) Wrap(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := g.identify(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		g.repo.Touch(d.ID)
		next(w, r.WithContext(context.WithValue(r.Context(), deviceKey{}, d)))
	})
}

type heartbeat struct {
	Frame int    `json:"frame"`
	Scene string `json:"scene"`
}

func onHeartbeat(w http.ResponseWriter, r *http.Request) {
	var hb heartbeat
	if err := json.NewDecoder(r.Body).Decode(&hb); err != nil {
		http.Error(w, "bad heartbeat", http.StatusBadRequest)
		return
	}
	d := r.Context().Value(deviceKey{}).(*device)
	_ = json.NewEncoder(w).Encode(map[string]any{"player": d.Player, "ack": hb.Frame})
}

func diag() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	m := http.NewServeMux()
	m.HandleFunc("/debug/pprof/", pprof.Index)
	m.HandleFunc("/debug/pprof/profile", pprof.Profile)
	m.HandleFunc("/debug/pprof/trace", pprof.Trace)
	m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	m.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	go func() { log.Print(http.ListenAndServe(addr, m)) }()
}

type mobile struct {
	base, id, secret string
	http             *http.Client
}

func (m *mobile) run(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for frame := 0; ; frame++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		b, _ := json.Marshal(heartbeat{Frame: frame, Scene: "lobby"})
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, m.base+"/v1/heartbeat", bytes.NewReader(b))
		req.SetBasicAuth(m.id, m.secret)
		resp, err := m.http.Do(req)
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	diag()
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	defer a.Close()

	scheme := stretched{rounds: 60000, size: 32}
	repo := &deviceRepo{byID: map[string]*device{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	guard := &Guard{repo: repo, scheme: scheme}
	mux := http.NewServeMux()
	mux.Handle("POST /v1/heartbeat", guard.Wrap(onHeartbeat))
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(ln) }()

	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	var phones []*mobile
	for i := range 24 {
		raw := make([]byte, 12)
		_, _ = rand.Read(raw)
		secret := hex.EncodeToString(raw)
		d, err := scheme.Seal(secret)
		if err != nil {
			log.Fatal(err)
		}
		id := "dev-" + strconv.Itoa(i)
		repo.byID[id] = &device{ID: id, Player: 1000 + i, Secret: d}
		phones = append(phones, &mobile{base: "http://" + ln.Addr().String(), id: id, secret: secret, http: client})
	}
	for _, p := range phones {
		go p.run(ctx, 150*time.Millisecond)
	}
	<-ctx.Done()
	_ = srv.Close()
}
