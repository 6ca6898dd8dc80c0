// Intake measures how fast the archive takes artifacts in durably: four writers
// at once, each artifact with its rows, hashed and synced before it counts. Its
// peer does the least that is durable: the same bytes into plain files, each
// synced, and nothing else. Rounds are interleaved, so that a busy disk is
// equally busy for both.
//
//	go run ./bench/intake [-short] [-dir ./somewhere-on-the-disk]
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/bench/internal/measure"
	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/archive/localblob"
	"github.com/opscenter/opscenter/internal/archive/sqlite"
	"github.com/opscenter/opscenter/internal/ops"
)

const (
	writers = 4
	chunk   = 32640 // what a message of the agent's carries
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	short := flag.Bool("short", false, "a tenth of the bytes, one round")
	dir := flag.String("dir", ".", "a directory on the disk to measure")
	flag.Parse()
	if err := run(ctx, *dir, *short); err != nil {
		fmt.Fprintln(os.Stderr, "intake:", err)
		os.Exit(1)
	}
}

// load is what one round stores.
type load struct {
	name  string
	size  int // of one artifact
	count int // of artifacts, of all writers together
}

// way is a way to store a load.
type way struct {
	name  string
	store func(ctx context.Context, dir string, l load, content []byte) error
}

func run(ctx context.Context, dir string, short bool) (err error) {
	fmt.Println(measure.Machine())
	dir, err = os.MkdirTemp(dir, "intake-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // as far as it goes
	rounds, shrink := 5, 1
	if short {
		rounds, shrink = 1, 10
	}
	content := make([]byte, 50<<20)
	random := rand.NewChaCha8([32]byte{7})
	_, _ = random.Read(content) // never fails
	var table measure.Table
	table.Row("artifacts", "way", "MB/s", "artifacts/s", "CPU s per GiB", "ratio to plain files")
	for _, l := range []load{{"64 KiB", 64 << 10, 1600 / shrink}, {"1 MiB", 1 << 20, 400 / shrink}, {"50 MiB", 50 << 20, 40 / shrink}} {
		l.count = max(l.count, writers)
		ways := []way{{"plain files, fsync", plain}, {"archive", store}}
		seconds, cpu := make([][]float64, len(ways)), make([][]float64, len(ways))
		for range rounds {
			for i, w := range ways {
				at := filepath.Join(dir, fmt.Sprintf("%d-%d", i, len(seconds[i])))
				used, began := measure.Used().CPU, time.Now()
				if err := w.store(ctx, at, l, content[:l.size]); err != nil {
					return fmt.Errorf("%s of %s: %w", w.name, l.name, err)
				}
				seconds[i] = append(seconds[i], time.Since(began).Seconds())
				cpu[i] = append(cpu[i], (measure.Used().CPU - used).Seconds())
				if err := os.RemoveAll(at); err != nil {
					return err
				}
			}
		}
		bytes := float64(l.size) * float64(l.count)
		for i, w := range ways {
			s := measure.Median(seconds[i])
			table.Row(
				l.name, w.name, fmt.Sprintf("%.0f", bytes/s/1e6), fmt.Sprintf("%.0f", float64(l.count)/s),
				fmt.Sprintf("%.2f", measure.Median(cpu[i])/bytes*(1<<30)), fmt.Sprintf("%.2f", measure.Median(seconds[0])/s),
			)
		}
	}
	table.Print(os.Stdout)
	return nil
}

// plain is the peer.
func plain(ctx context.Context, dir string, l load, content []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return share(ctx, l.count, func(i int) error {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("f%d", i)))
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // Sync tells
		for rest := content; len(rest) > 0; {
			n, err := f.Write(rest[:min(chunk, len(rest))])
			if err != nil {
				return err
			}
			rest = rest[n:]
		}
		return f.Sync()
	})
}

// store is the archive as the centre has it; each writer fills captures of its
// own.
func store(ctx context.Context, dir string, l load, content []byte) (err error) {
	rows, err := sqlite.Open(ctx, filepath.Join(dir, "ops.db"))
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // what counts was committed
	blobs, err := localblob.Open(localblob.Config{Dir: filepath.Join(dir, "blobs")})
	if err != nil {
		return err
	}
	defer blobs.Close() //nolint:errcheck // what counts was synced
	a, err := archive.Open(ctx, archive.Config{Catalogue: rows, Blobs: blobs, Dir: dir})
	if err != nil {
		return err
	}
	defer a.Close() //nolint:errcheck // it only holds the lock
	hash := sha256.Sum256(content)
	return share(ctx, writers, func(w int) error {
		var id ops.CaptureID
		var left int64
		for i := w; i < l.count; i += writers {
			if left < int64(l.size) { // a capture takes so much of an instance, then comes the next
				c := ops.Capture{ID: newID(), Project: "bench", Service: "intake", State: ops.CaptureCollecting, Created: time.Now()}
				c.Targets = []ops.CaptureTarget{{Instance: ops.Instance{ID: "boot-0"}, State: ops.CaptureCollecting}}
				if err := a.Begin(ctx, c); err != nil {
					return err
				}
				id, left = c.ID, ops.MaxCaptureBytes
			}
			left -= int64(l.size)
			out, err := a.Create(ctx, ops.ArtifactRef{Capture: id, Instance: "boot-0", Name: fmt.Sprintf("f%d", i)}, ops.Artifact{Kind: ops.KindTrace})
			if err != nil {
				return err
			}
			for rest := content; len(rest) > 0; {
				n, err := out.Write(rest[:min(chunk, len(rest))])
				if err != nil {
					return err
				}
				rest = rest[n:]
			}
			if err := out.Commit(int64(l.size), hash[:], ops.Artifact{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// share does n pieces of work, as many at once as there are writers.
func share(ctx context.Context, n int, do func(i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	for i := range n {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return do(i)
		})
	}
	return g.Wait()
}

func newID() ops.CaptureID {
	return ops.CaptureID(strings.ToLower(ulid.Make().String()))
}
