// Replay-buffers keeps the headers of replays.
package main

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type archive struct {
	mu      sync.Mutex
	headers [][]byte
}

func read(n uint64) []byte {
	buf := make([]byte, 64<<10) // want: heap-growth
	for i := 0; i+8 <= len(buf); i += 512 {
		binary.LittleEndian.PutUint64(buf[i:], n)
	}
	return buf
}

func (a *archive) add(n uint64) {
	replay := read(n)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.headers = append(a.headers, replay[:16])
}

func main() {
	s := stage.Start()
	a := &archive{}
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := uint64(0); ; n++ {
			<-tick.C
			a.add(n)
		}
	}()
	s.Wait()
}
