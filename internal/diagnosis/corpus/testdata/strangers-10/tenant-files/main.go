package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	slot  = 64
	slots = 4096
)

type notary struct{ addr string }

func (n notary) stamp(conn net.Conn, sum uint64) (uint64, error) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], sum)
	if _, err := conn.Write(b[:]); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

func (n notary) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var b [8]byte
			for {
				if _, err := io.ReadFull(c, b[:]); err != nil {
					return
				}
				time.Sleep(6 * time.Millisecond)
				if _, err := c.Write(b[:]); err != nil {
					return
				}
			}
		}()
	}
}

type ledger struct {
	root   string
	notary notary
}

func (g *ledger) exclusive(tenant string, fn func(*os.File) error) error {
	f, err := os.OpenFile(filepath.Join(g.root, tenant+".led"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	fd := int(f.Fd())
	for {
		err = unix.Flock(fd, unix.LOCK_EX) // want: thread-explosion
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", tenant, err)
	}
	defer unix.Flock(fd, unix.LOCK_UN)
	return fn(f)
}

func (g *ledger) post(conn net.Conn, tenant string, entry string) error {
	return g.exclusive(tenant, func(f *os.File) error {
		var head [8]byte
		if _, err := f.ReadAt(head[:], 0); err != nil && err != io.EOF {
			return err
		}
		seq := binary.LittleEndian.Uint64(head[:]) + 1
		h := fnv.New64a()
		io.WriteString(h, entry)
		mark, err := g.notary.stamp(conn, h.Sum64())
		if err != nil {
			return err
		}
		rec := make([]byte, slot)
		binary.LittleEndian.PutUint64(rec, mark)
		copy(rec[8:], entry)
		if _, err := f.WriteAt(rec, int64(1+seq%slots)*slot); err != nil {
			return err
		}
		binary.LittleEndian.PutUint64(head[:], seq)
		_, err = f.WriteAt(head[:], 0)
		return err
	})
}

func (g *ledger) clerk(ctx context.Context, tenants []string, id int) error {
	conn, err := net.Dial("tcp", g.notary.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	for ctx.Err() == nil {
		t := tenants[rand.IntN(len(tenants))]
		if err := g.post(conn, t, fmt.Sprintf("clerk=%d amount=%d", id, rand.IntN(5000))); err != nil {
			return err
		}
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
	}
	return nil
}

func main() {
	root, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	g := &ledger{root: root, notary: notary{addr: l.Addr().String()}}
	go g.notary.serve(l)

	grp, ctx := errgroup.WithContext(context.Background())
	grp.Go(func() error { return http.ListenAndServe(os.Getenv("ADDR"), nil) })
	tenants := []string{"aurora", "brink", "cobalt", "dune"}
	for i := range 220 {
		grp.Go(func() error { return g.clerk(ctx, tenants, i) })
	}
	log.Fatal(grp.Wait())
}
