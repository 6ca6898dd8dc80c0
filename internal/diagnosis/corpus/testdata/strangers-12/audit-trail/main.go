// Command audit-trail records wallet movements: handlers append to a buffer in
// memory, one writer swaps the buffer and syncs it to disk.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

type Movement struct {
	Seq    int64     `json:"seq"`
	Player string    `json:"player"`
	Amount int64     `json:"amount"`
	At     time.Time `json:"at"`
}

type Trail struct {
	mu     sync.Mutex
	active []byte
	spare  []byte

	dir   string
	file  *os.File
	size  int64
	limit int64
}

func OpenTrail(dir string, limit int64) (*Trail, error) {
	t := &Trail{dir: dir, limit: limit}
	return t, t.rotate()
}

func (t *Trail) rotate() error {
	if t.file != nil {
		t.file.Close()
	}
	f, err := os.Create(filepath.Join(t.dir, "audit.ndjson"))
	if err != nil {
		return err
	}
	t.file, t.size = f, 0
	return nil
}

func (t *Trail) Append(m *Movement) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active = append(append(t.active, line...), '\n')
	return nil
}

func (t *Trail) swap() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	full := t.active
	t.active, t.spare = t.spare[:0], nil
	return full
}

func (t *Trail) flush() error {
	buf := t.swap()
	defer func() {
		t.mu.Lock()
		t.spare = buf[:0]
		t.mu.Unlock()
	}()
	if len(buf) == 0 {
		return nil
	}
	n, err := t.file.Write(buf)
	if err != nil {
		return err
	}
	if err := t.file.Sync(); err != nil {
		return err
	}
	if t.size += int64(n); t.size > t.limit {
		return t.rotate()
	}
	return nil
}

func (t *Trail) run(every time.Duration) {
	for range time.Tick(every) {
		if err := t.flush(); err != nil {
			log.Printf("audit: %v", err)
		}
	}
}

type API struct {
	trail *Trail
	seq   atomic.Int64
}

func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := &Movement{Seq: a.seq.Add(1), Player: r.PathValue("player"), Amount: 25, At: time.Now()}
	if err := a.trail.Append(m); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, `{"seq":%d}`, m.Seq)
}

func cashier(base string, id int) {
	for {
		resp, err := http.Post(fmt.Sprintf("%s/wallets/p%d/move", base, id), "application/json", nil)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		time.Sleep(25 * time.Millisecond)
	}
}

func main() {
	dir, err := os.MkdirTemp("", "audit")
	if err != nil {
		log.Fatal(err)
	}
	trail, err := OpenTrail(dir, 4<<20)
	if err != nil {
		log.Fatal(err)
	}
	go trail.run(100 * time.Millisecond)
	mux := http.NewServeMux()
	mux.Handle("POST /wallets/{player}/move", &API{trail: trail})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 8
	for i := range 8 {
		go cashier("http://"+ln.Addr().String(), i)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
