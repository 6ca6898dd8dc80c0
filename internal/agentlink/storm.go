package agentlink

import (
	"runtime/debug"
	"sync"
	"time"
)

// A storm is many agents that connect within a short time: after a start of the
// centre, or of the network. Each TLS handshake leaves about 20 KiB behind,
// which the runtime would keep for as long as memory is not short.
const (
	stormSize  = 256             // connections
	stormQuiet = 5 * time.Second // without another one, after which a storm is over
)

// storm gives the memory of handshakes back to the system when many of them are
// over. Doing so costs one garbage collection.
type storm struct {
	giveBack func() // nil = debug.FreeOSMemory

	mu    sync.Mutex // guards all below
	count int
	timer *time.Timer // nil = no storm
	done  sync.WaitGroup
	over  bool // close was called
}

// joined counts a connection.
func (s *storm) joined() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	switch {
	case s.over || s.count < stormSize:
	case s.timer != nil && s.timer.Stop():
		s.timer.Reset(stormQuiet)
	default:
		s.done.Add(1)
		s.timer = time.AfterFunc(stormQuiet, s.passed)
	}
}

func (s *storm) passed() {
	defer s.done.Done()
	s.mu.Lock()
	s.count, s.timer = 0, nil
	giveBack := s.giveBack
	s.mu.Unlock()
	if giveBack == nil {
		giveBack = debug.FreeOSMemory
	}
	giveBack()
}

// close returns when nothing is under way any more.
func (s *storm) close() {
	s.mu.Lock()
	s.over = true
	if s.timer != nil && s.timer.Stop() {
		s.timer = nil
		s.done.Done()
	}
	s.mu.Unlock()
	s.done.Wait()
}
