package inflate_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	klauspost "github.com/klauspost/compress/gzip"

	"github.com/opscenter/opscenter/internal/inflate"
)

// packed is b as a gzip file of that level.
func packed(t testing.TB, b []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// samples are data of all kinds of blocks, codes and distances.
func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	out := map[string][]byte{"nothing": {}, "one byte": {7}}
	random := make([]byte, 200_000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	out["random"] = random
	skewed := make([]byte, 300_000)
	for i := range skewed {
		skewed[i] = byte(r.ExpFloat64() * 6)
	}
	out["skewed"] = skewed
	// Halving frequencies make codes of all lengths.
	var long []byte
	for i := range 18 {
		long = append(long, bytes.Repeat([]byte{byte(40 * i), byte(i)}, 1<<i/2)...)
	}
	r.Shuffle(len(long), func(i, j int) { long[i], long[j] = long[j], long[i] })
	out["long codes"] = long
	for n := 1; n <= 20; n++ {
		out[fmt.Sprintf("period of %d", n)] = bytes.Repeat(random[:n], 10_000/n)
	}
	var text strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&text, "%d: net/http.(*conn).serve %x\n", i%700, r.IntN(1<<(i%20)))
	}
	out["text"] = []byte(text.String())
	far := bytes.Clone(random[:40_000])
	for range 500 {
		at := r.IntN(len(far) - 300)
		far = append(far, far[at:at+3+r.IntN(290)]...)
	}
	out["far matches"] = far
	return out
}

func TestWhatWasPackedIsUnpacked(t *testing.T) {
	var f inflate.Inflater
	var kept []byte
	for name, want := range samples() {
		for _, level := range []int{gzip.HuffmanOnly, gzip.NoCompression, gzip.BestSpeed, 5, gzip.BestCompression} {
			in := packed(t, want, level)
			got, err := f.Gzip(kept, in, int64(len(want)))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s at level %d: %d bytes of %d, %v", name, level, len(got), len(want), err)
			}
			fresh, err := new(inflate.Inflater).Gzip(nil, in, 1<<30)
			if err != nil || !bytes.Equal(fresh, want) {
				t.Fatalf("%s at level %d in new memory: %d bytes of %d, %v", name, level, len(fresh), len(want), err)
			}
			if _, err := f.Gzip(kept, in, int64(len(want))-1); len(want) > 0 && !errors.Is(err, inflate.ErrTooLarge) {
				t.Fatalf("%s at level %d with a limit of a byte less: %v", name, level, err)
			}
			kept = got
		}
	}
}

func TestMembersFollowOneAnother(t *testing.T) {
	in := append(packed(t, []byte("one, "), 9), packed(t, []byte("two"), 1)...)
	got, err := new(inflate.Inflater).Gzip(nil, in, 100)
	if err != nil || string(got) != "one, two" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestHeadersAreSkippedWhole(t *testing.T) {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Name, w.Comment, w.Extra = "a name", "a comment", []byte("anything")
	w.Write([]byte("the data"))
	w.Close()
	got, err := new(inflate.Inflater).Gzip(nil, out.Bytes(), 100)
	if err != nil || string(got) != "the data" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDamageIsNamed(t *testing.T) {
	whole := packed(t, bytes.Repeat([]byte("some text, "), 100), 6)
	with := func(at int, b byte) []byte {
		out := bytes.Clone(whole)
		out[at] ^= b
		return out
	}
	for _, tt := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, io.ErrUnexpectedEOF},
		{"no gzip", []byte("it is only text"), gzip.ErrHeader},
		{"a reserved flag", with(3, 0x80), gzip.ErrHeader},
		{"no DEFLATE", with(2, 1), gzip.ErrHeader},
		{"a wrong sum", with(len(whole)-5, 1), gzip.ErrChecksum},
		{"a wrong size", with(len(whole)-1, 1), gzip.ErrChecksum},
		{"a block of no kind", with(10, 6), inflate.ErrCorrupt},
		{"something behind it", append(bytes.Clone(whole), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9), gzip.ErrHeader},
	} {
		if _, err := new(inflate.Inflater).Gzip(nil, tt.in, 1<<20); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	for n := range whole {
		if _, err := new(inflate.Inflater).Gzip(nil, whole[:n], 1<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d of %d bytes: %v", n, len(whole), err)
		}
	}
}

func TestABombTakesNoMemory(t *testing.T) {
	in := packed(t, make([]byte, 20<<20), 9)
	out, err := new(inflate.Inflater).Gzip(nil, in, 1<<20)
	if !errors.Is(err, inflate.ErrTooLarge) || cap(out) > 1<<20+1<<16 {
		t.Errorf("%d bytes of memory, %v", cap(out), err)
	}
}

// FuzzGzip compares with the standard library: the same is accepted, and it is the
// same that comes out.
func FuzzGzip(f *testing.F) {
	for _, b := range samples() {
		for _, level := range []int{gzip.HuffmanOnly, gzip.NoCompression, gzip.BestSpeed, gzip.BestCompression} {
			f.Add(packed(f, b[:min(len(b), 3000)], level)[10:])
		}
	}
	var unpacked inflate.Inflater
	f.Fuzz(func(t *testing.T, in []byte) {
		const bound = 1 << 20
		std := flate.NewReader(bytes.NewReader(in))
		want, wrong := io.ReadAll(io.LimitReader(std, bound+1))
		got, err := unpacked.Deflated(in, bound)
		switch {
		case len(want) > bound:
			if err == nil {
				t.Fatalf("%d bytes were accepted where %d may be", len(got), bound)
			}
		case wrong != nil:
			if err == nil {
				t.Fatalf("accepted; the standard library says %v", wrong)
			}
		case err != nil:
			t.Fatalf("refused: %v", err)
		case !bytes.Equal(got, want):
			t.Fatalf("%d bytes, and other ones than the standard library's %d", len(got), len(want))
		}
		// As a file, whose header and sums are anything.
		_, _ = unpacked.Gzip(nil, append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0}, in...), bound)
		_, _ = unpacked.Gzip(nil, in, bound)
	})
}

func BenchmarkGzip(b *testing.B) {
	for name, plain := range samples() {
		if len(plain) < 100_000 {
			continue
		}
		in := packed(b, plain, gzip.BestSpeed)
		b.Run(name+"/own", func(b *testing.B) {
			var f inflate.Inflater
			var out []byte
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				out, _ = f.Gzip(out, in, 1<<30)
			}
		})
		b.Run(name+"/klauspost", func(b *testing.B) {
			var zr klauspost.Reader
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				_ = zr.Reset(bytes.NewReader(in))
				_, _ = io.Copy(io.Discard, &zr)
			}
		})
	}
}
