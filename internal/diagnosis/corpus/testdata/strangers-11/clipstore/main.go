package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	magic      = 0x434c4950
	headerSize = 48
	idSize     = 16
)

type clip struct {
	owner  []byte
	digest [8]byte
	taken  uint32
}

type catalogue struct {
	mu    sync.RWMutex
	clips map[uint64]clip
	last  uint64
}

func (c *catalogue) add(cl clip) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.clips[c.last] = cl // want: heap-growth
	return c.last
}

func (c *catalogue) owner(id uint64) (string, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	cl, ok := c.clips[id]
	return hex.EncodeToString(cl.owner), ok
}

type httpError struct {
	code int
	msg  string
}

func (e httpError) Error() string { return e.msg }

type endpoint func(w http.ResponseWriter, r *http.Request) error

func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch err := e(w, r).(type) {
	case nil:
	case httpError:
		http.Error(w, err.msg, err.code)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func readFrame(r *http.Request) ([]byte, error) {
	if r.ContentLength < headerSize || r.ContentLength > 1<<20 {
		return nil, httpError{http.StatusRequestEntityTooLarge, "size"}
	}
	frame := make([]byte, r.ContentLength) // want: heap-growth
	if _, err := io.ReadFull(r.Body, frame); err != nil {
		return nil, err
	}
	if binary.BigEndian.Uint32(frame) != magic {
		return nil, httpError{http.StatusBadRequest, "magic"}
	}
	return frame, nil
}

func describe(frame []byte) clip {
	sum := sha256.Sum256(frame[headerSize:])
	cl := clip{
		owner: frame[8 : 8+idSize], // want: heap-growth
		taken: binary.BigEndian.Uint32(frame[4:]),
	}
	copy(cl.digest[:], sum[:])
	return cl
}

type api struct{ cat *catalogue }

func (a api) upload(w http.ResponseWriter, r *http.Request) error {
	frame, err := readFrame(r) // want: heap-growth
	if err != nil {
		return err
	}
	id := a.cat.add(describe(frame)) // want: heap-growth
	_, err = io.WriteString(w, strconv.FormatUint(id, 10))
	return err
}

func (a api) who(w http.ResponseWriter, r *http.Request) error {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		return httpError{http.StatusBadRequest, "id"}
	}
	o, ok := a.cat.owner(id)
	if !ok {
		return httpError{http.StatusNotFound, "unknown"}
	}
	_, err = io.WriteString(w, o)
	return err
}

func player(base string, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	buf := make([]byte, 72<<10)
	for i := range buf {
		buf[i] = byte(rng.Uint32())
	}
	binary.BigEndian.PutUint32(buf, magic)
	for range time.Tick(95 * time.Millisecond) {
		binary.BigEndian.PutUint32(buf[4:], uint32(time.Now().Unix()))
		n := 56<<10 + rng.IntN(16<<10)
		resp, err := http.Post(base+"/clips", "application/octet-stream", bytes.NewReader(buf[:n]))
		if err != nil {
			continue
		}
		id, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp, err = http.Get(base + "/clips/" + string(id) + "/owner"); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
}

func main() {
	a := api{&catalogue{clips: make(map[uint64]clip)}}
	mux := http.NewServeMux()
	mux.Handle("POST /clips", endpoint(a.upload))
	mux.Handle("GET /clips/{id}/owner", endpoint(a.who))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	for i := range uint64(5) {
		go player("http://"+ln.Addr().String(), i)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
