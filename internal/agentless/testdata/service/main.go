// Service is a small service with net/http/pprof and expvar imported, as a
// careless service does it. It works and waits a little, prints its address and
// serves until it is killed. Go versions from 1.16 on build it.
package main

import (
	_ "expvar"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"sync"
	"time"
)

var (
	mu   sync.Mutex
	kept [][]byte
)

//go:noinline
func burn() {
	for at := time.Now(); time.Since(at) < 2*time.Millisecond; {
	}
}

//go:noinline
func holdTheLock() {
	for {
		mu.Lock()
		burn()
		mu.Unlock()
		time.Sleep(3 * time.Millisecond)
	}
}

//go:noinline
func keepMemory() {
	for i := 0; i < 64; i++ {
		kept = append(kept, make([]byte, 1<<20))
	}
}

func main() {
	runtime.SetMutexProfileFraction(1)
	runtime.SetBlockProfileRate(1)
	keepMemory()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go holdTheLock()
	go holdTheLock()
	fmt.Println(l.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(l, nil))
	os.Exit(1)
}
