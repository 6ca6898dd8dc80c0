// session-gateway holds one long-lived connection per player and passes on
// what the rooms have for them.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

type frame struct {
	kind byte
	body []byte
}

type link struct {
	id   uint64
	conn net.Conn
	in   chan frame
	out  chan frame
	done chan struct{}
}

type gateway struct {
	links sync.Map // id -> *link
	next  atomic.Uint64
	moved atomic.Int64
}

func readFrame(r io.Reader) (frame, error) {
	var h [3]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return frame{}, err
	}
	b := make([]byte, binary.BigEndian.Uint16(h[1:]))
	_, err := io.ReadFull(r, b)
	return frame{kind: h[0], body: b}, err
}

func writeFrame(w io.Writer, f frame) error {
	b := make([]byte, 3, 3+len(f.body))
	b[0] = f.kind
	binary.BigEndian.PutUint16(b[1:], uint16(len(f.body)))
	_, err := w.Write(append(b, f.body...))
	return err
}

func (g *gateway) accept(ctx context.Context, c net.Conn) {
	l := &link{id: g.next.Add(1), conn: c, in: make(chan frame), out: make(chan frame, 8), done: make(chan struct{})}
	g.links.Store(l.id, l)
	go l.read()
	go g.serve(ctx, l)
}

func (l *link) read() {
	defer close(l.done)
	for {
		f, err := readFrame(l.conn)
		if err != nil {
			return
		}
		l.in <- f
	}
}

// serve is the link's only writer.
func (g *gateway) serve(ctx context.Context, l *link) {
	defer g.links.Delete(l.id)
	defer l.conn.Close()
	for {
		var err error
		select {
		case f := <-l.in:
			err = writeFrame(l.conn, frame{kind: 'P', body: f.body})
		case f := <-l.out:
			err = writeFrame(l.conn, f)
		case <-l.done:
			return
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
		g.moved.Add(1)
	}
}

// tell hands a frame to one player; who does not keep up is let go.
func (g *gateway) tell(id uint64, f frame) {
	v, ok := g.links.Load(id)
	if !ok {
		return
	}
	l := v.(*link)
	select {
	case l.out <- f:
	default:
		l.conn.Close()
	}
}

func client(c net.Conn) {
	go func() {
		br := bufio.NewReaderSize(c, 512)
		for {
			if _, err := readFrame(br); err != nil {
				return
			}
		}
	}()
	time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
	for {
		if err := writeFrame(c, frame{kind: 'H', body: []byte("beat")}); err != nil {
			return
		}
		time.Sleep(3 * time.Second)
	}
}

func main() {
	const players = 2500
	g := &gateway{}
	for range players {
		a, b := net.Pipe()
		g.accept(context.Background(), a)
		go client(b)
	}
	go func() {
		for range time.Tick(5 * time.Millisecond) {
			g.tell(1+rand.Uint64N(players), frame{kind: 'S', body: []byte(`{"seat":4,"turn":true}`)})
		}
	}()
	go func() {
		for range time.Tick(15 * time.Second) {
			log.Printf("frames moved: %d", g.moved.Load())
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
