// Throttled draws numbers, with less CPU than it wants.
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

type lottery struct {
	seed    [32]byte
	numbers []int
	text    string
	sum     uint32
}

func (l *lottery) hash()  { l.seed = sha256.Sum256(append(l.seed[:], make([]byte, 16<<10)...)) }
func (l *lottery) order() { sort.Ints(l.numbers) }
func (l *lottery) print() {
	var b strings.Builder
	for _, n := range l.numbers {
		b.WriteString(strconv.Itoa(n))
	}
	l.text = b.String()
}
func (l *lottery) check() {
	for range 40 {
		l.sum = crc32.Update(l.sum, crc32.IEEETable, []byte(l.text))
	}
}
func (l *lottery) shuffle() {
	for i := range l.numbers {
		j := int(l.seed[i%32]) * i % len(l.numbers)
		l.numbers[i], l.numbers[j] = l.numbers[j], l.numbers[i]
	}
}

func main() {
	s := stage.Start()
	for range 2 {
		go func() {
			l := &lottery{}
			for i := range 3000 {
				l.numbers = append(l.numbers, i)
			}
			for s.Context().Err() == nil {
				l.hash()
				l.shuffle()
				l.order()
				l.print()
				l.check()
				time.Sleep(300 * time.Microsecond)
			}
		}()
	}
	s.Wait()
}
