package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"
)

type Outcome struct {
	ID    ulid.ULID
	Table int
	Reels [5]uint8
	Win   int64
}

func (o Outcome) appendTo(b []byte) []byte {
	b = append(b, o.ID[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(o.Table))
	b = append(b, o.Reels[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(o.Win))
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

type Sink interface {
	Put(context.Context, Outcome) error
}

type Journal struct {
	queue chan Outcome
	conn  net.Conn
	buf   []byte
}

func Dial(addr string, depth int) (*Journal, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Journal{queue: make(chan Outcome, depth), conn: c}, nil
}

func (j *Journal) Put(ctx context.Context, o Outcome) error {
	select {
	case j.queue <- o: // want: channel-backpressure
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (j *Journal) Run(ctx context.Context) error {
	defer j.conn.Close()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case o := <-j.queue:
			if err := j.commit(o); err != nil { // want: channel-backpressure
				return fmt.Errorf("journal: %w", err)
			}
		}
	}
}

func (j *Journal) commit(o Outcome) error {
	frame := o.appendTo(j.buf[:0])
	j.buf = frame
	if _, err := j.conn.Write(binary.BigEndian.AppendUint16(nil, uint16(len(frame)))); err != nil {
		return err
	}
	if _, err := j.conn.Write(frame); err != nil {
		return err
	}
	var ack [1]byte
	_, err := io.ReadFull(j.conn, ack[:]) // want: channel-backpressure
	return err
}

type Table struct {
	no   int
	pace time.Duration
	rng  *rand.Rand
	sink Sink
}

func (t *Table) spin() Outcome {
	o := Outcome{ID: ulid.Make(), Table: t.no}
	for i := range o.Reels {
		o.Reels[i] = uint8(t.rng.IntN(12))
	}
	if o.Reels[0] == o.Reels[1] && o.Reels[1] == o.Reels[2] {
		o.Win = 500 * int64(o.Reels[0]+1)
	}
	return o
}

func (t *Table) Play(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := t.sink.Put(ctx, t.spin()); err != nil {
			return err
		}
		time.Sleep(t.pace)
	}
	return ctx.Err()
}

func regulator() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				rd := bufio.NewReader(c)
				var head [2]byte
				for {
					if _, err := io.ReadFull(rd, head[:]); err != nil {
						return
					}
					if _, err := rd.Discard(int(binary.BigEndian.Uint16(head[:]))); err != nil {
						return
					}
					time.Sleep(3 * time.Millisecond)
					c.Write([]byte{1})
				}
			}()
		}
	}()
	return l.Addr().String(), nil
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	go http.ListenAndServe(os.Getenv("ADDR"), nil)

	addr, err := regulator()
	if err != nil {
		log.Fatal(err)
	}
	j, err := Dial(addr, 128)
	if err != nil {
		log.Fatal(err)
	}
	g, ctx := errgroup.WithContext(context.Background())
	g.Go(func() error { return j.Run(ctx) })
	for n := range 40 {
		t := &Table{no: n, pace: 20 * time.Millisecond, rng: rand.New(rand.NewPCG(uint64(n), 77)), sink: j}
		g.Go(func() error { return t.Play(ctx) })
	}
	log.Fatal(g.Wait())
}
