// Throttled deals cards, with less CPU than its players want.
package main

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type deal struct {
	seed    [32]byte
	numbers []int
	text    string
	sum     uint32
}

func (d *deal) hash()  { d.seed = sha256.Sum256(append(d.seed[:], d.text...)) }
func (d *deal) order() { sort.Ints(d.numbers) }
func (d *deal) print() {
	var b strings.Builder
	for _, n := range d.numbers {
		b.WriteString(strconv.Itoa(n))
	}
	d.text = b.String()
}
func (d *deal) check() {
	text := []byte(d.text)
	for range 800 {
		d.sum = crc32.Update(d.sum, crc32.IEEETable, text)
	}
}
func (d *deal) shuffle() {
	for i := range d.numbers {
		j := int(d.seed[i%32]) * i % len(d.numbers)
		d.numbers[i], d.numbers[j] = d.numbers[j], d.numbers[i]
	}
}

func serve(w http.ResponseWriter, _ *http.Request) {
	d := &deal{}
	for i := range 6000 {
		d.numbers = append(d.numbers, i)
	}
	d.hash()
	d.shuffle()
	d.order()
	d.print()
	d.check()
	fmt.Fprintln(w, d.sum)
}

func main() {
	s := stage.Start()
	s.Crowd(stage.Traffic{URL: s.Serve(http.HandlerFunc(serve)) + "/deal", Users: 12, Pause: 2 * time.Millisecond})
	s.Wait()
}
