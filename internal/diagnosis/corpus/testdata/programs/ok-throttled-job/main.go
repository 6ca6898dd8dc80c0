// Ok-throttled-job settles the day's bets in its own time.
package main

import (
	"crypto/sha256"
	"hash/crc32"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type ledger struct {
	seed    [32]byte
	numbers []int
	text    string
	sum     uint32
}

func (l *ledger) hash() { l.seed = sha256.Sum256(append(l.seed[:], l.text...)) }

func (l *ledger) order() { sort.Ints(l.numbers) }

func (l *ledger) write() {
	var b strings.Builder
	for _, n := range l.numbers {
		b.WriteString(strconv.Itoa(n))
	}
	l.text = b.String()
}

func (l *ledger) check() {
	text := []byte(l.text)
	for range 400 {
		l.sum = crc32.Update(l.sum, crc32.IEEETable, text)
	}
}

func (l *ledger) mix() {
	for i := range l.numbers {
		j := int(l.seed[i%32]) * i % len(l.numbers)
		l.numbers[i], l.numbers[j] = l.numbers[j], l.numbers[i]
	}
}

func main() {
	s := stage.Start()
	l := &ledger{}
	for i := range 6000 {
		l.numbers = append(l.numbers, i)
	}
	for s.Context().Err() == nil {
		l.hash()
		l.mix()
		l.order()
		l.write()
		l.check()
		time.Sleep(100 * time.Microsecond)
	}
	s.Wait()
}
