// Command ok-settlement-batch settles the day's rounds, file after file.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/csv"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

type row struct {
	round  int64
	player string
	stake  int64
	won    int64
}

type chunk []row

func parse(raw []byte) (chunk, error) {
	r := csv.NewReader(bytes.NewReader(raw))
	r.ReuseRecord = true
	var out chunk
	for {
		rec, err := r.Read()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		var x row
		x.round, _ = strconv.ParseInt(rec[0], 10, 64)
		x.player = rec[1]
		x.stake, _ = strconv.ParseInt(rec[2], 10, 64)
		x.won, _ = strconv.ParseInt(rec[3], 10, 64)
		out = append(out, x)
	}
}

func settle(c chunk) map[string]int64 {
	net := make(map[string]int64, 256)
	for _, x := range c {
		net[x.player] += x.won - x.stake
	}
	return net
}

func seal(net map[string]int64, w io.Writer) error {
	h := sha256.New()
	zw, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
	bw := bufio.NewWriter(io.MultiWriter(zw, h))
	for p, n := range net {
		bw.WriteString(p)
		binary.Write(bw, binary.LittleEndian, n)
	}
	bw.Flush()
	return zw.Close()
}

func day() []byte {
	var b bytes.Buffer
	for i := range 4000 {
		fmt.Fprintf(&b, "%d,p%d,%d,%d\n", i, rand.IntN(1200), rand.IntN(100), rand.IntN(190))
	}
	return b.Bytes()
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	raw, nets := make(chan []byte, 2), make(chan map[string]int64, 2)
	var settled atomic.Int64
	g, ctx := errgroup.WithContext(context.Background())
	g.Go(func() error { // the archive gives a file every 6 ms
		files := [][]byte{day(), day(), day(), day()}
		t := time.NewTicker(6 * time.Millisecond)
		defer t.Stop()
		for n := 0; ; n++ {
			select {
			case <-t.C:
			case <-ctx.Done():
				return nil
			}
			raw <- files[n%len(files)]
		}
	})
	var parsers sync.WaitGroup
	for range 2 {
		parsers.Add(1)
		g.Go(func() error {
			defer parsers.Done()
			for r := range raw {
				c, err := parse(r)
				if err != nil {
					return err
				}
				settled.Add(int64(len(c)))
				nets <- settle(c)
			}
			return nil
		})
	}
	g.Go(func() error { parsers.Wait(); close(nets); return nil })
	g.Go(func() error {
		for n := range nets {
			if err := seal(n, io.Discard); err != nil {
				return err
			}
		}
		return nil
	})
	log.Fatal(g.Wait())
}
