// Command payment-callbacks verifies and books the callbacks of payment
// providers; its log goes to the node's collector over TCP.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var key = []byte("provider-shared-key")

type Wallets struct{ m sync.Map }

func (w *Wallets) Credit(player string, amount int64) int64 {
	v, _ := w.m.LoadOrStore(player, new(atomic.Int64))
	return v.(*atomic.Int64).Add(amount)
}

type Callback struct {
	Provider, Player, Ref, Sig string
	Amount                     int64
}

func parse(r *http.Request) (Callback, error) {
	q := r.URL.Query()
	c := Callback{Provider: q.Get("provider"), Player: q.Get("player"), Ref: q.Get("ref"), Sig: q.Get("sig")}
	_, err := fmt.Sscan(q.Get("amount"), &c.Amount)
	return c, err
}

func sign(ref string) string {
	m := hmac.New(sha256.New, key)
	io.WriteString(m, ref)
	return hex.EncodeToString(m.Sum(nil))
}

type Handler struct {
	wallets *Wallets
	log     *slog.Logger
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := parse(r)
	if err != nil {
		http.Error(w, "amount", http.StatusBadRequest)
		return
	}
	lg := h.log.With("provider", c.Provider, "ref", c.Ref, "player", c.Player)
	lg.Info("callback received", "headers", r.Header, "query", r.URL.RawQuery) // want: log-contention
	if !hmac.Equal([]byte(sign(c.Ref)), []byte(c.Sig)) {
		lg.Warn("signature mismatch")
		http.Error(w, "signature", http.StatusForbidden)
		return
	}
	lg.Info("signature ok", "amount", c.Amount) // want: log-contention
	balance := h.wallets.Credit(c.Player, c.Amount)
	lg.Info("wallet credited", "amount", c.Amount, "balance", balance) // want: log-contention
	fmt.Fprint(w, "OK")
}

// collector stands for the log agent of the node.
func collector() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
		buf := make([]byte, 8<<10)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			time.Sleep(25 * time.Millisecond)
		}
	}()
	return ln.Addr().String()
}

func newLogger(addr string) *slog.Logger {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
	h := slog.NewJSONHandler(c, &slog.HandlerOptions{AddSource: true, Level: slog.LevelInfo}) // want: log-contention
	return slog.New(h).With("service", "payment-callbacks", "pod", "pc-6f7d9")
}

func provider(base, name string, n int) {
	cl := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	var seq atomic.Int64
	for i := range n {
		go func() {
			for {
				ref := fmt.Sprintf("%s-%08d", name, seq.Add(1))
				url := fmt.Sprintf("%s/cb?provider=%s&player=p%d&ref=%s&amount=500&sig=%s", base, name, i, ref, sign(ref))
				req, _ := http.NewRequest(http.MethodPost, url, strings.NewReader(ref))
				req.Header.Set("X-Forwarded-For", "10.1.2.3, 10.8.0.4")
				resp, err := cl.Do(req)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(15 * time.Millisecond)
			}
		}()
	}
}

func main() {
	h := &Handler{wallets: &Wallets{}, log: newLogger(collector())}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	for _, p := range []string{"stripe", "gcash"} {
		provider("http://"+ln.Addr().String(), p, 24)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
