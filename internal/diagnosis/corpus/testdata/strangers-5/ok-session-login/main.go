package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
	"golang.org/x/crypto/bcrypt"
)

type gate struct {
	digest map[string][]byte
	key    []byte
}

func (g *gate) sign(user string) string {
	m := hmac.New(sha256.New, g.key)
	_, _ = io.WriteString(m, user)
	return user + "." + hex.EncodeToString(m.Sum(nil))
}

func (g *gate) login(w http.ResponseWriter, r *http.Request) {
	user, pass, _ := r.BasicAuth()
	if bcrypt.CompareHashAndPassword(g.digest[user], []byte(pass)) != nil {
		http.Error(w, "denied", http.StatusUnauthorized)
		return
	}
	fmt.Fprint(w, g.sign(user))
}

func (g *gate) require(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		tok := r.Header.Get("X-Session")
		user, _, _ := strings.Cut(tok, ".")
		if !hmac.Equal([]byte(tok), []byte(g.sign(user))) {
			http.Error(w, "denied", http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

func call(ctx context.Context, url string, set func(*http.Request)) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return ""
	}
	set(req)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

func player(ctx context.Context, base, user string, offset time.Duration) {
	time.Sleep(offset)
	for ctx.Err() == nil {
		tok := call(ctx, base+"/login", func(r *http.Request) { r.SetBasicAuth(user, "pw-"+user) })
		for i := 0; i < 300 && ctx.Err() == nil; i++ {
			call(ctx, base+"/me", func(r *http.Request) { r.Header.Set("X-Session", tok) })
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	g := &gate{digest: map[string][]byte{}, key: []byte("5f0c7cbe")}
	for i := 0; i < 6; i++ {
		u := fmt.Sprintf("player%d", i)
		g.digest[u], _ = bcrypt.GenerateFromPassword([]byte("pw-"+u), 10)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/login", g.login)
	mux.HandleFunc("/me", g.require(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "{\"level\":12}") }))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, mux)
	for i := 0; i < 6; i++ {
		go player(ctx, "http://"+ln.Addr().String(), fmt.Sprintf("player%d", i), time.Duration(i)*time.Second)
	}
	<-ctx.Done()
}
