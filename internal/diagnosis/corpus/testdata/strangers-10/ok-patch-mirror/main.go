package main

import (
	"context"
	"fmt"
	"hash/crc64"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/time/rate"
)

type pacedReader struct {
	ctx context.Context
	r   io.Reader
	lim *rate.Limiter
}

func (p pacedReader) Read(b []byte) (int, error) {
	if len(b) > p.lim.Burst() {
		b = b[:p.lim.Burst()]
	}
	n, err := p.r.Read(b)
	if n > 0 {
		if werr := p.lim.WaitN(p.ctx, n); werr != nil {
			return n, werr
		}
	}
	return n, err
}

type mirror struct {
	dir     string
	perConn rate.Limit
	bufs    sync.Pool
}

func newMirror(dir string, perConn rate.Limit) *mirror {
	return &mirror{dir: dir, perConn: perConn, bufs: sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}}
}

type plainWriter struct{ io.Writer }

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, err := os.Open(filepath.Join(m.dir, filepath.Base(r.PathValue("file"))))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(st.Size()))
	w.Header().Set("Content-Type", "application/octet-stream")
	buf := m.bufs.Get().(*[]byte)
	defer m.bufs.Put(buf)
	src := pacedReader{ctx: r.Context(), r: f, lim: rate.NewLimiter(m.perConn, 128<<10)}
	if _, err := io.CopyBuffer(plainWriter{w}, src, *buf); err != nil {
		log.Printf("%s: %v", r.URL.Path, err)
	}
}

func seed(dir string, names []string, size int) error {
	src := rand.NewChaCha8([32]byte{7})
	for _, n := range names {
		f, err := os.Create(filepath.Join(dir, n))
		if err != nil {
			return err
		}
		if _, err := io.CopyN(f, src, int64(size)); err != nil {
			f.Close()
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

type updater struct {
	http  *http.Client
	base  string
	files []string
	table *crc64.Table
}

func (u *updater) download(name string) (uint64, int64, error) {
	res, err := u.http.Get(u.base + "/patches/" + name)
	if err != nil {
		return 0, 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("%s: %s", name, res.Status)
	}
	h := crc64.New(u.table)
	n, err := io.Copy(h, res.Body)
	return h.Sum64(), n, err
}

func (u *updater) loop() {
	for n := 0; ; n++ {
		name := u.files[rand.IntN(len(u.files))]
		_, size, err := u.download(name)
		if err != nil {
			log.Printf("update %s after %s: %v", name, humanize.IBytes(uint64(size)), err)
			time.Sleep(time.Second)
		}
	}
}

func main() {
	dir, err := os.MkdirTemp("", "patches")
	if err != nil {
		log.Fatal(err)
	}
	files := []string{"base.pak", "audio.pak", "maps.pak"}
	if err := seed(dir, files, 24<<20); err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /patches/{file}", newMirror(dir, 4<<20))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	u := &updater{
		http:  &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}},
		base:  "http://" + l.Addr().String(),
		files: files,
		table: crc64.MakeTable(crc64.ECMA),
	}
	for range 16 {
		go u.loop()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
