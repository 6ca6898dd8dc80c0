// replay-archive compresses finished replays and stores them; it reads them
// back when somebody wants to see one.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
	buf sync.Pool
}

func newCodec() (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(512<<10), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2))
	if err != nil {
		return nil, err
	}
	return &codec{enc: enc, dec: dec, buf: sync.Pool{New: func() any { return new([]byte) }}}, nil
}

// archive keeps replays in numbered slots of a directory.
type archive struct {
	dir   string
	slots int
	codec *codec
	jobs  errgroup.Group
}

func newArchive(dir string, slots, workers int) (*archive, error) {
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	a := &archive{dir: dir, slots: slots, codec: c}
	a.jobs.SetLimit(workers)
	return a, nil
}

func (a *archive) path(id int) string {
	return filepath.Join(a.dir, fmt.Sprintf("%04d.zst", id%a.slots))
}

func (a *archive) store(id int, raw []byte) error {
	b := a.codec.buf.Get().(*[]byte)
	defer a.codec.buf.Put(b)
	*b = a.codec.enc.EncodeAll(raw, (*b)[:0])
	tmp := fmt.Sprintf("%s.%d", a.path(id), id)
	if err := os.WriteFile(tmp, *b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, a.path(id))
}

// submit starts the storing of a replay unless all workers are busy.
func (a *archive) submit(id int, raw []byte) bool {
	return a.jobs.TryGo(func() error {
		if err := a.store(id, raw); err != nil {
			log.Printf("replay %d: %v", id, err)
		}
		return nil
	})
}

func (a *archive) load(_ context.Context, id int, w io.Writer) error {
	z, err := os.ReadFile(a.path(id))
	if err != nil {
		return err
	}
	raw, err := a.codec.dec.DecodeAll(z, nil)
	if err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}

func (a *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var id int
	if _, err := fmt.Sscanf(r.URL.Path, "/replays/%d", &id); err != nil {
		http.NotFound(w, r)
		return
	}
	switch err := a.load(r.Context(), id, w); {
	case errors.Is(err, os.ErrNotExist):
		http.NotFound(w, r)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// recording makes up a replay: inputs of six players, many of them alike.
func recording(n int) []byte {
	var b bytes.Buffer
	for b.Len() < 300<<10 {
		fmt.Fprintf(&b, "%d;p%d;move;%d,%d\n", n, rand.IntN(6), rand.IntN(64), rand.IntN(64))
	}
	return b.Bytes()
}

func main() {
	dir, err := os.MkdirTemp("", "replays")
	if err != nil {
		log.Fatal(err)
	}
	a, err := newArchive(dir, 200, 4)
	if err != nil {
		log.Fatal(err)
	}
	samples := make([][]byte, 16)
	for i := range samples {
		samples[i] = recording(i)
	}
	go func() {
		id, late := 0, 0
		for range time.Tick(45 * time.Millisecond) {
			id++
			if !a.submit(id, samples[id%len(samples)]) {
				late++
				log.Printf("replay %d not stored (%d so far)", id, late)
			}
		}
	}()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, a)) }()
	hc := &http.Client{Timeout: 2 * time.Second}
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			resp, err := hc.Get(fmt.Sprintf("http://%s/replays/%d", ln.Addr(), rand.IntN(200)))
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
