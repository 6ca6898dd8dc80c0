package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

type archive struct {
	dir  string
	keep int
	mu   sync.Mutex
	ring []string
	next int
}

func (a *archive) slot() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := a.ring[a.next]
	a.next = (a.next + 1) % len(a.ring)
	return name
}

func (a *archive) store(src io.Reader) (name, sum string, err error) {
	name = a.slot()
	tmp, err := os.CreateTemp(a.dir, "up-*")
	if err != nil {
		return "", "", err
	}
	defer os.Remove(tmp.Name())
	h := md5.New()
	if _, err = io.Copy(tmp, io.TeeReader(src, h)); err != nil {
		tmp.Close()
		return "", "", err
	}
	if err = tmp.Close(); err != nil {
		return "", "", err
	}
	return name, hex.EncodeToString(h.Sum(nil)), os.Rename(tmp.Name(), filepath.Join(a.dir, name))
}

func (a *archive) upload(w http.ResponseWriter, r *http.Request) {
	name, sum, err := a.store(http.MaxBytesReader(w, r.Body, 16<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, name, sum)
}

func (a *archive) download(w http.ResponseWriter, r *http.Request) {
	f, err := os.OpenInRoot(a.dir, r.PathValue("name"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Mode()&fs.ModeType != 0 {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", st.ModTime(), f)
}

type gauge struct {
	h     hash.Hash
	every int
	seen  int
	pause time.Duration
}

func (g *gauge) Write(p []byte) (int, error) {
	if g.seen += len(p); g.seen >= g.every {
		g.seen = 0
		time.Sleep(g.pause)
	}
	return g.h.Write(p)
}

type noise struct {
	left int
	rng  *rand.ChaCha8
}

func (n *noise) Read(p []byte) (int, error) {
	if n.left <= 0 {
		return 0, io.EOF
	}
	k := min(len(p), n.left)
	n.left -= k
	return n.rng.Read(p[:k])
}

func main() {
	dir, err := os.MkdirTemp("", "replays")
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &archive{dir: dir, keep: 8}
	for i := range a.keep {
		a.ring = append(a.ring, fmt.Sprintf("replay-%02d.bin", i))
	}
	fresh := func(i int) *noise { return &noise{8 << 20, rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)})} }
	for i := range a.keep {
		if _, _, err := a.store(fresh(i)); err != nil {
			log.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /replays", a.upload)
	mux.HandleFunc("GET /replays/{name}", a.download)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	base := "http://" + ln.Addr().String()
	for range 6 {
		go func() {
			for {
				if resp, err := http.Get(fmt.Sprintf("%s/replays/replay-%02d.bin", base, rand.IntN(a.keep))); err == nil {
					_, _ = io.Copy(&gauge{h: md5.New(), every: 256 << 10, pause: 45 * time.Millisecond}, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(rand.N(200 * time.Millisecond))
			}
		}()
	}
	go func() {
		for i := 0; ; i++ {
			req, _ := http.NewRequest(http.MethodPut, base+"/replays", fresh(i))
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			time.Sleep(900 * time.Millisecond)
		}
	}()
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()
	<-ctx.Done()
	_ = os.RemoveAll(dir)
}
