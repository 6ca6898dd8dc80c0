package main

import (
	"context"
	"fmt"
	"log"
	"math/rand"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type item struct {
	Name  string
	Stats [24]int32
	Blob  []byte
}

type snapshot struct {
	items map[int]*item
}

func build(n int) *snapshot {
	s := &snapshot{items: make(map[int]*item, n)}
	for i := 0; i < n; i++ {
		it := &item{Name: fmt.Sprintf("item-%06d", i), Blob: make([]byte, 2048)}
		for j := range it.Blob {
			it.Blob[j] = byte(i + j)
		}
		s.items[i] = it
	}
	return s
}

type catalog struct{ cur atomic.Pointer[snapshot] }

func (c *catalog) describe(id int) string {
	it, ok := c.cur.Load().items[id]
	if !ok {
		return ""
	}
	return fmt.Sprintf("%s/%d", it.Name, it.Stats[id%24])
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	c := &catalog{}
	c.cur.Store(build(70000))
	for i := 0; i < 8; i++ {
		go func() {
			for ctx.Err() == nil {
				_ = c.describe(rand.Intn(70000))
				time.Sleep(3 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}
