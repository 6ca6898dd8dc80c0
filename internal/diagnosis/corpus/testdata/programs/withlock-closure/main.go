// Withlock-closure guards tables.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type guarded[T any] struct {
	mu sync.Mutex
	v  T
}

func (g *guarded[T]) with(do func(*T)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	do(&g.v) // want: lock-held-across-io
}

type store struct {
	conn net.Conn
	r    *bufio.Reader
}

func (s *store) save(key string) error {
	if _, err := fmt.Fprintf(s.conn, "*2\r\n$4\r\nSAVE\r\n$%d\r\n%s\r\n", len(key), key); err != nil {
		return err
	}
	_, err := s.r.ReadString('\n') // want: lock-held-across-io
	return err
}

type table struct {
	pot   int
	store *store
}

func main() {
	stage.Child("store", standin.Redis(standin.Always(12*time.Millisecond)))
	s := stage.Start()
	conn, err := net.Dial("tcp", s.Spawn("store"))
	if err != nil {
		panic(err)
	}
	t := &guarded[table]{v: table{store: &store{conn, bufio.NewReader(conn)}}}
	mux := http.NewServeMux()
	mux.HandleFunc("/bet", func(w http.ResponseWriter, _ *http.Request) {
		t.with(func(t *table) {
			t.pot++
			if err := t.store.save("pot"); err != nil { // want: lock-held-across-io
				http.Error(w, err.Error(), http.StatusBadGateway)
			}
		})
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/bet", Users: 40, Pause: 10 * time.Millisecond})
	s.Wait()
}
