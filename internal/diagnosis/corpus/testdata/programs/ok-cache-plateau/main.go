// Ok-cache-plateau keeps what was asked for last, up to a limit.
package main

import (
	"container/list"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type entry struct {
	key  string
	data []byte
}

type lru struct {
	mu    sync.Mutex
	order *list.List
	byKey map[string]*list.Element
	most  int
}

func (l *lru) get(key string) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.byKey[key]; ok {
		l.order.MoveToFront(e)
		return e.Value.(*entry).data
	}
	fresh := &entry{key, make([]byte, 8<<10)}
	l.byKey[key] = l.order.PushFront(fresh)
	if l.order.Len() > l.most {
		last := l.order.Back()
		l.order.Remove(last)
		delete(l.byKey, last.Value.(*entry).key)
	}
	return fresh.data
}

func main() {
	s := stage.Start()
	l := &lru{order: list.New(), byKey: map[string]*list.Element{}, most: 6000}
	for i := range 6500 {
		l.get(fmt.Sprint("warm ", i))
	}
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/get", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, len(l.get(fmt.Sprint("item ", n.Add(1)%20_000))))
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/get", PerSecond: 400})
	s.Wait()
}
