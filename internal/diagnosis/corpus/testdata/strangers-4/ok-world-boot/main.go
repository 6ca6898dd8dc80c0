// World server: loads its catalogue at the start, then serves it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
	"golang.org/x/crypto/bcrypt"
)

type item struct {
	ID    int      `json:"id"`
	Name  string   `json:"name"`
	Tags  []string `json:"tags"`
	Price int      `json:"price"`
}

type world struct {
	items  sync.Map
	loaded atomic.Int64
	admin  []byte
}

func (w *world) load(part, size int) error {
	var b strings.Builder
	b.WriteByte('[')
	for i := range size {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":%d,"name":"item %d of %d","tags":["a%d","b%d"],"price":%d}`, part*size+i, i, part, i%7, i%11, i%900)
	}
	b.WriteByte(']')
	var items []item
	if err := json.Unmarshal([]byte(b.String()), &items); err != nil {
		return err
	}
	for i := range items {
		w.items.Store(items[i].ID, &items[i])
	}
	w.loaded.Add(int64(len(items)))
	return nil
}

func (w *world) boot() {
	w.admin, _ = bcrypt.GenerateFromPassword([]byte("change me"), 11)
	var wg sync.WaitGroup
	for part := range 120 {
		wg.Go(func() {
			if err := w.load(part, 1000); err != nil {
				log.Print(err)
			}
		})
	}
	wg.Wait()
}

func (w *world) show(rw http.ResponseWriter, r *http.Request) {
	v, ok := w.items.Load(rand.IntN(120_000))
	if !ok {
		http.NotFound(rw, r)
		return
	}
	json.NewEncoder(rw).Encode(v)
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "visitors" {
		announce("ready")
		for {
			resp, err := http.Get(os.Args[2])
			if err == nil {
				resp.Body.Close()
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	w := &world{}
	w.boot()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, http.HandlerFunc(w.show))
	if _, err := spawn("visitors", "http://"+ln.Addr().String()); err != nil {
		log.Fatal(err)
	}
	<-ctx.Done()
}
