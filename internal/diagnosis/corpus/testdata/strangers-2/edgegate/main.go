package main

import (
	"bufio"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type principal struct {
	Studio string `json:"studio"`
	Scope  string `json:"scope"`
}

type principalKey struct{}

// identifier turns what a caller presents into who the caller is.
type identifier interface {
	Identify(ctx context.Context, id, secret string) (principal, error)
}

var errUnknown = errors.New("unknown caller")

// sessions knows browser sessions handed out by the portal.
type sessions struct {
	mu   sync.RWMutex
	live map[string]principal
}

func (s *sessions) Identify(_ context.Context, id, _ string) (principal, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p, ok := s.live[id]; ok {
		return p, nil
	}
	return principal{}, errUnknown
}

type studioKey struct {
	salt, sum []byte
	rounds    int
	who       principal
}

// keyring knows the API keys of partner studios.
type keyring struct {
	mu   sync.RWMutex
	keys map[string]studioKey
}

func (k *keyring) Identify(_ context.Context, id, secret string) (principal, error) {
	k.mu.RLock()
	row, ok := k.keys[id]
	k.mu.RUnlock()
	if !ok {
		return principal{}, errUnknown
	}
	sum, err := pbkdf2.Key(sha256.New, secret, row.salt, row.rounds, len(row.sum))
	if err != nil {
		return principal{}, err
	}
	if subtle.ConstantTimeCompare(sum, row.sum) != 1 {
		return principal{}, errUnknown
	}
	return row.who, nil
}

// firstOf asks each identifier in turn.
type firstOf []identifier

func (f firstOf) Identify(ctx context.Context, id, secret string) (principal, error) {
	for _, one := range f {
		p, err := one.Identify(ctx, id, secret)
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, errUnknown) {
			return p, err
		}
	}
	return principal{}, errUnknown
}

func withIdentity(ids identifier, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		who, err := ids.Identify(r.Context(), id, secret)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, who)))
	})
}

func withRequestID(next http.Handler) http.Handler {
	var n atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", strconv.FormatInt(n.Add(1), 36))
		next.ServeHTTP(w, r)
	})
}

type table struct {
	ID    int    `json:"id"`
	Game  string `json:"game"`
	Seats []int  `json:"seats"`
}

func routes() http.Handler {
	mux := http.NewServeMux()
	tables := make([]table, 40)
	for i := range tables {
		tables[i] = table{ID: i, Game: "sicbo", Seats: []int{1, 2, 3, 4, 5}}
	}
	mux.HandleFunc("GET /v1/tables", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(tables)
	})
	mux.HandleFunc("GET /v1/balance", func(w http.ResponseWriter, r *http.Request) {
		who := r.Context().Value(principalKey{}).(principal)
		json.NewEncoder(w).Encode(map[string]any{"studio": who.Studio, "balance": 1200})
	})
	mux.HandleFunc("POST /v1/heartbeat", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

func main() {
	// agent-hook
	if len(os.Args) > 1 {
		studios()
		return
	}
	runtime.GOMAXPROCS(2)
	serveDebug()
	ring := &keyring{keys: map[string]studioKey{}}
	for i := range 12 {
		salt := make([]byte, 16)
		rand.Read(salt)
		sum, err := pbkdf2.Key(sha256.New, fmt.Sprintf("secret-%d", i), salt, 110_000, 32)
		if err != nil {
			log.Fatal(err)
		}
		ring.keys[fmt.Sprintf("studio-%d", i)] = studioKey{salt, sum, 110_000, principal{fmt.Sprintf("studio-%d", i), "play"}}
	}
	ids := firstOf{&sessions{live: map[string]principal{}}, ring}
	in, _ := spawn("studios")
	fmt.Fprintln(in, serve(withRequestID(withIdentity(ids, routes()))))
	untilTerminated(in)
}

// studios plays the partner backends that call the API.
func studios() {
	runtime.GOMAXPROCS(1)
	fmt.Println("ready")
	base := attach()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	for i := range 14 {
		go func() {
			for n := 0; ; n++ {
				method, path := "GET", "/v1/balance"
				switch n % 3 {
				case 1:
					path = "/v1/tables"
				case 2:
					method, path = "POST", "/v1/heartbeat"
				}
				req, _ := http.NewRequest(method, base+path, nil)
				req.SetBasicAuth(fmt.Sprintf("studio-%d", i%12), fmt.Sprintf("secret-%d", i%12))
				if res, err := hc.Do(req); err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(30 * time.Millisecond)
			}
		}()
	}
	select {}
}

// spawn starts this binary again in another role and returns its stdin and the
// first line it prints. Closing stdin ends it.
func spawn(role string) (io.WriteCloser, string) {
	exe, err := os.Executable()
	if err != nil {
		log.Fatal(err)
	}
	cmd := exec.Command(exe, role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		log.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		log.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		log.Fatal(err)
	}
	return in, strings.TrimSpace(line)
}

// serve runs the public API on a free port and returns its base URL.
func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, h)
	return "http://" + ln.Addr().String()
}

func serveDebug() {
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
}

func untilTerminated(keep ...io.Closer) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
	for _, c := range keep {
		c.Close()
	}
}

// attach reads the base URL of the service from the parent, and ends this
// process when the parent goes away.
func attach() string {
	sc := bufio.NewScanner(os.Stdin)
	sc.Scan()
	base := sc.Text()
	go func() {
		for sc.Scan() {
		}
		os.Exit(0)
	}()
	return base
}
