// Siege simulation: steps battles, verifies and packs their records.
package main

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type soldier struct{ x, y, vx, vy, hp float64 }

type battle struct {
	army    []soldier
	key     ed25519.PrivateKey
	scratch []byte
	buf     bytes.Buffer
	packer  *flate.Writer
	steps   atomic.Int64
}

func newBattle(n int) *battle {
	_, key, _ := ed25519.GenerateKey(nil)
	b := &battle{army: make([]soldier, n), key: key}
	for i := range b.army {
		b.army[i] = soldier{rand.Float64() * 100, rand.Float64() * 100, rand.Float64(), rand.Float64(), 100}
	}
	b.packer, _ = flate.NewWriter(&b.buf, flate.BestSpeed)
	return b
}

func (b *battle) move() {
	for range 4 {
		for i := range b.army {
			s := &b.army[i]
			s.x += s.vx * math.Cos(s.y/50)
			s.y += s.vy * math.Sin(s.x/50)
		}
	}
}

func (b *battle) clash() {
	slices.SortFunc(b.army, func(p, q soldier) int {
		if p.x < q.x {
			return -1
		}
		return 1
	})
	for i := 1; i < len(b.army); i++ {
		if b.army[i].x-b.army[i-1].x < 0.05 {
			b.army[i].hp *= 0.999
		}
	}
}

func (b *battle) record() uint32 {
	b.scratch = b.scratch[:0]
	for _, s := range b.army {
		b.scratch = binary.LittleEndian.AppendUint32(b.scratch, uint32(s.x*16))
		b.scratch = binary.LittleEndian.AppendUint32(b.scratch, uint32(s.hp))
	}
	b.buf.Reset()
	b.packer.Reset(&b.buf)
	b.packer.Write(b.scratch)
	b.packer.Close()
	return crc32.ChecksumIEEE(b.buf.Bytes())
}

func (b *battle) sign(sum uint32) bool {
	msg := binary.BigEndian.AppendUint32(nil, sum)
	ok := true
	for range 3 {
		sig := ed25519.Sign(b.key, msg)
		ok = ok && ed25519.Verify(b.key.Public().(ed25519.PublicKey), msg, sig)
	}
	return ok
}

func (b *battle) run(ctx context.Context) {
	for ctx.Err() == nil {
		start := time.Now()
		for time.Since(start) < 16*time.Millisecond {
			b.move()
			b.clash()
			b.sign(b.record())
			b.steps.Add(1)
		}
		time.Sleep(4 * time.Millisecond)
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	for range 2 {
		go newBattle(1500).run(ctx)
	}
	<-ctx.Done()
}
