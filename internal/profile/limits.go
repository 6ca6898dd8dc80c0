package profile

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/opscenter/opscenter/internal/inflate"
	"github.com/opscenter/opscenter/internal/ops"
)

// Limits bound what a profile may cost its reader. The zero value means the
// defaults.
type Limits struct {
	// CompressedBytes is how much is read at most; 0 = 512 MiB, the largest capture.
	CompressedBytes int64
	// DecompressedBytes is how large the profile may become; 0 = 1 GiB.
	DecompressedBytes int64
	// Ratio is how many times its compressed size the profile may become once it
	// is larger than 16 MiB; 0 = 200.
	Ratio int64
	// Samples is how many stacks it may hold; 0 = 5 million.
	Samples int
	// Depth is how many locations a stack may have; 0 = 1024, the most that the
	// Go runtime records.
	Depth int
	// Labels is how many labels a sample may have; 0 = 30.
	Labels int
	// MemoryBytes is what the decoded objects may take, by estimate, before
	// anything is decoded; 0 = 1 GiB. Merge and Delta hold all inputs at once.
	MemoryBytes int64
}

// ratioFrom is the size below which the ratio does not matter.
const ratioFrom = 16 << 20

func (l Limits) withDefaults() Limits {
	def := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	defInt := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.CompressedBytes, 512<<20)
	def(&l.DecompressedBytes, 1<<30)
	def(&l.Ratio, 200)
	def(&l.MemoryBytes, 1<<30)
	defInt(&l.Samples, 5_000_000)
	defInt(&l.Depth, 1024)
	defInt(&l.Labels, 30)
	return l
}

// Decompress reads all of r, which is gzip, zstd or plain by its content, and
// returns the plain bytes. Exhausted when a limit is passed, Corrupt when the
// compressed data is damaged or there is none. Errors of r itself are returned
// as they are, wrapped.
func Decompress(r io.Reader, lim Limits) ([]byte, error) {
	lim = lim.withDefaults()
	in, err := readUpTo(r, lim.CompressedBytes, 0)
	if err != nil {
		return nil, err
	}
	return decompress(in, lim)
}

// bound is how large what was compressed to so many bytes may become.
func (l Limits) bound(compressed int) int64 {
	bound := l.DecompressedBytes
	if byRatio := int64(compressed) * l.Ratio; byRatio < bound {
		bound = max(byRatio, min(ratioFrom, bound))
	}
	return bound
}

func decompress(in []byte, lim Limits) ([]byte, error) {
	bound := lim.bound(len(in))
	switch {
	case len(in) == 0:
		return nil, ops.Errorf(ops.Corrupt, "the profile is empty: capture it again")
	case isGzip(in):
		return inflated(&inflate.Inflater{}, nil, in, lim)
	case bytes.HasPrefix(in, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		var h zstd.Header
		if err := h.Decode(in); err != nil {
			return nil, ops.Errorf(ops.Corrupt, "the profile's zstd data is damaged (%w): capture it again", err)
		}
		zr, err := zstd.NewReader(bytes.NewReader(in), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(bound)), zstd.WithDecoderMaxWindow(64<<20))
		if err != nil {
			return nil, ops.Errorf(ops.Corrupt, "the profile's zstd data is damaged (%w): capture it again", err)
		}
		defer zr.Close()
		return decompressed(zr, bound, believed(int64(min(h.FrameContentSize, 1<<40)), len(in), lim))
	}
	if int64(len(in)) > lim.DecompressedBytes {
		return nil, tooLarge(lim.DecompressedBytes)
	}
	return in, nil
}

func isGzip(in []byte) bool { return bytes.HasPrefix(in, []byte{0x1f, 0x8b}) }

// inflated is a gzip file unpacked into dst's memory, or new memory. What it
// returns with an error is memory as well.
func inflated(f *inflate.Inflater, dst, in []byte, lim Limits) ([]byte, error) {
	bound := lim.bound(len(in))
	out, err := f.Gzip(dst, in, min(bound, believable(len(in))))
	if errors.Is(err, inflate.ErrTooLarge) && believable(len(in)) < bound {
		// No ordinary profile becomes that large: it is measured before it gets memory.
		if size := unpackedSize(in, bound); size <= bound {
			out, err = f.Gzip(slices.Grow(out[:0], int(size)+sizeSlack), in, bound)
		}
	}
	switch {
	case errors.Is(err, inflate.ErrTooLarge):
		err = tooLarge(bound)
	case err != nil:
		err = ops.Errorf(ops.Corrupt, "the profile's gzip data is damaged (%w): capture it again", err)
	}
	return out, err
}

// believable is what so many bytes of gzip may become at once. The profiles of real
// programs become 3 to 12 times as large.
func believable(compressed int) int64 { return max(64<<20, 32*int64(compressed)) }

// sizeSlack is room behind the result in which the unpacking writes.
const sizeSlack = 1 << 10

// unpackedSize is what a gzip file becomes, or more than bound where it becomes
// more. What is damaged is as large as it is up to there: unpacking says what is
// wrong with it.
func unpackedSize(in []byte, bound int64) int64 {
	zr, err := gzip.NewReader(bytes.NewReader(in))
	if err != nil {
		return 0
	}
	size, _ := io.Copy(io.Discard, io.LimitReader(zr, bound+1)) // see above
	return size
}

// believed is a hint as far as ordinary data compresses.
func believed(hint int64, compressed int, lim Limits) int64 {
	return min(hint, lim.bound(compressed), int64(compressed)*16)
}

func decompressed(zr io.Reader, bound, hint int64) ([]byte, error) {
	out, err := readUpTo(zr, bound, hint)
	if err != nil && ops.KindOf(err) != ops.Exhausted {
		return nil, ops.Errorf(ops.Corrupt, "the profile's compressed data is damaged (%w): capture it again", err)
	}
	return out, err
}

// readUpTo reads all of r, or Exhausted if there is more than bound.
func readUpTo(r io.Reader, bound, hint int64) ([]byte, error) {
	buf, err := readInto(make([]byte, 0, max(hint+1, 64<<10)), r, bound)
	if err != nil {
		return nil, err
	}
	return buf, nil
}

// readInto is readUpTo with memory to begin with; what it returns with an error
// can be used again.
func readInto(buf []byte, r io.Reader, bound int64) ([]byte, error) {
	for {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(max(int64(cap(buf))*3/2, 64<<10), bound+1))
			copy(grown, buf)
			buf = grown
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > bound {
			return buf, tooLarge(bound)
		}
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

func tooLarge(bound int64) error {
	return ops.Errorf(ops.Exhausted, "the profile is larger than %d MiB when unpacked, which is the limit for its size: download it and open it with go tool pprof", bound>>20)
}
