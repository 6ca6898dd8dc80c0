// Ok-bulk-pipeline reads blocks and checks them; the queue between is full by design.
package main

import (
	"crypto/md5"
	"crypto/sha1"
	"hash/crc64"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type block struct {
	n    int
	data []byte
}

var table = crc64.MakeTable(crc64.ISO)

func verify(b block) (sum uint64) {
	m := md5.Sum(b.data)
	s := sha1.Sum(b.data)
	return crc64.Checksum(b.data, table) + uint64(m[0]) + uint64(s[0])
}

func read(to chan<- block, stop <-chan struct{}, free <-chan []byte) {
	defer close(to)
	for n := 0; ; n++ {
		select {
		case b := <-free:
			b[n%len(b)]++
			to <- block{n, b}
		case <-stop:
			return
		}
	}
}

func main() {
	s := stage.Start()
	const depth = 8
	free, work := make(chan []byte, depth), make(chan block, depth)
	for range depth {
		free <- make([]byte, 256<<10)
	}
	go read(work, s.Context().Done(), free)
	var all sync.WaitGroup
	var mu sync.Mutex
	total := uint64(0)
	all.Go(func() {
		for b := range work {
			sum := verify(b)
			mu.Lock()
			total += sum
			mu.Unlock()
			free <- b.data
			time.Sleep(500 * time.Microsecond)
		}
	})
	s.Wait()
	all.Wait()
}
