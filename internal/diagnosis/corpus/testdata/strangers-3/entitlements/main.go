// Command entitlements tells shops which items a player already owns.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

// kv speaks the line protocol of the key-value store.
type kv struct {
	mu   sync.Mutex
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
}

func dial(addr string) (*kv, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &kv{conn: c, r: bufio.NewReader(c), w: bufio.NewWriter(c)}, nil
}

func (k *kv) do(cmd string, args ...any) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.w.WriteString(cmd)
	for _, a := range args {
		fmt.Fprintf(k.w, " %v", a)
	}
	k.w.WriteByte('\n')
	if err := k.w.Flush(); err != nil {
		return "", err
	}
	line, err := k.r.ReadString('\n') // want: lock-held-across-io
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\n")
	if msg, bad := strings.CutPrefix(line, "-"); bad {
		return "", errors.New(msg)
	}
	return strings.TrimPrefix(line, "+"), nil
}

type shop struct{ store *kv }

func (s *shop) owned(w http.ResponseWriter, r *http.Request) {
	v, err := s.store.do("GET", "owned:"+r.PathValue("player"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	io.WriteString(w, v)
}

func store() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for sc := bufio.NewScanner(c); sc.Scan(); {
					time.Sleep(12*time.Millisecond + rand.N(6*time.Millisecond))
					fmt.Fprintf(c, "+%08b\n", rand.IntN(256))
				}
			}()
		}
	}()
	return l.Addr().String()
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(1)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	k, err := dial(store())
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /owned/{player}", (&shop{k}).owned)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for i := range 50 {
		go func() {
			for {
				res, err := hc.Get(fmt.Sprintf("http://%s/owned/%d", l.Addr(), i))
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(rand.N(60 * time.Millisecond))
			}
		}()
	}
	select {}
}
