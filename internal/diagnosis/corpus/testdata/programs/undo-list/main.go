// Undo-list lets players take moves back.
package main

import (
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type move struct {
	before *move
	board  [64]int32
}

type match struct {
	mu   sync.Mutex
	last *move
}

func (m *match) play(at int, piece int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &move{before: m.last} // want: heap-growth
	if m.last != nil {
		n.board = m.last.board
	}
	n.board[at%64] = piece
	m.last = n
}

func main() {
	s := stage.Start()
	all := make([]match, 50)
	go func() {
		n := 0
		for range time.Tick(5 * time.Millisecond) {
			for range 40 {
				n++
				all[n%50].play(n, int32(n)) // want: heap-growth
			}
		}
	}()
	s.Wait()
}
