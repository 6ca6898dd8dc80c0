package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type Code string

type Recent struct {
	mu   sync.Mutex
	have map[Code]int
	ring []Code
	next int
}

func NewRecent(n int) *Recent {
	return &Recent{have: make(map[Code]int, n), ring: make([]Code, n)}
}

func (r *Recent) Admit(c Code) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, dup := r.have[c]; dup {
		return false
	}
	if old := r.ring[r.next]; old != "" {
		delete(r.have, old)
	}
	r.ring[r.next] = c
	r.have[c] = r.next // want: retained-objects
	r.next = (r.next + 1) % len(r.ring)
	return true
}

type Slip struct {
	Code  Code
	Shop  string
	Legs  int
	Stake int
}

func Parse(doc string) (s Slip, err error) {
	head, legs, ok := strings.Cut(doc, "|legs|")
	if !ok {
		return s, io.ErrUnexpectedEOF
	}
	for field := range strings.SplitSeq(head, ";") {
		k, v, _ := strings.Cut(field, "=")
		switch k {
		case "code":
			s.Code = Code(v) // want: retained-objects
		case "shop":
			s.Shop = v
		case "stake":
			if _, err = fmt.Sscan(v, &s.Stake); err != nil {
				return s, err
			}
		}
	}
	s.Legs = strings.Count(legs, ",")
	return s, nil
}

type Till struct {
	recent *Recent
	shops  sync.Map
	taken  atomic.Int64
	dups   atomic.Int64
}

func (t *Till) Take(s Slip) {
	if !t.recent.Admit(s.Code) {
		t.dups.Add(1)
		return
	}
	v, ok := t.shops.Load(s.Shop)
	if !ok {
		v, _ = t.shops.LoadOrStore(strings.Clone(s.Shop), new(atomic.Int64))
	}
	v.(*atomic.Int64).Add(int64(s.Stake))
	t.taken.Add(1)
}

func (t *Till) Attend(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 16<<10)
	for {
		doc, err := in.ReadString('\n') // want: retained-objects
		if err != nil {
			return
		}
		slip, err := Parse(doc)
		if err != nil {
			log.Printf("slip from %s: %v", conn.RemoteAddr(), err)
			continue
		}
		t.Take(slip)
	}
}

func shop(addr string, no int) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	var b bytes.Buffer
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		b.Reset()
		fmt.Fprintf(&b, "code=%016x;shop=s%02d;stake=%d|legs|", rand.Uint64(), no, 1+rand.IntN(90))
		for leg := range 180 + rand.IntN(60) {
			fmt.Fprintf(&b, "m%05d:h@%d.%02d,", leg*37, 1+leg%4, leg%100)
		}
		b.WriteByte('\n')
		if _, err := b.WriteTo(conn); err != nil {
			return
		}
	}
}

func main() {
	till := &Till{recent: NewRecent(250_000)}
	http.HandleFunc("/till", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "taken=%d dups=%d\n", till.taken.Load(), till.dups.Load())
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go till.Attend(c)
		}
	}()
	for no := range 16 {
		go shop(l.Addr().String(), no)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
