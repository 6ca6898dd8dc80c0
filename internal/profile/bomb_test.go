package profile_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// many is a gzip file of so many zeros.
func many(t *testing.T, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(make([]byte, 4<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.Repeat(b.Bytes(), int(size>>22)) // of as many members
}

// TestABombIsMeasuredBeforeItGetsMemory: what becomes larger than any ordinary
// profile does is refused for the price of an ordinary one, and read where a limit
// allows it.
func TestABombIsMeasuredBeforeItGetsMemory(t *testing.T) {
	bomb := many(t, 512<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := profile.Decompress(bytes.NewReader(bomb), profile.Limits{})
	runtime.ReadMemStats(&after)
	if ops.KindOf(err) != ops.Exhausted || !strings.Contains(err.Error(), "MiB when unpacked, which is the limit for its size") {
		t.Error(err)
	}
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 256 { // 64 MiB, which grew to be that
		t.Errorf("it took %d MiB to refuse it", took)
	}
	large := many(t, 100<<20)
	b, err := profile.Decompress(bytes.NewReader(large), profile.Limits{Ratio: 2000})
	if err != nil || len(b) != 100<<20 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	cut := large[:len(large)-20]
	if _, err := profile.Decompress(bytes.NewReader(cut), profile.Limits{Ratio: 2000}); ops.KindOf(err) != ops.Corrupt {
		t.Errorf("cut off: %v", err)
	}
	if _, err := profile.Decompress(io.MultiReader(bytes.NewReader(large), bytes.NewReader(large)), profile.Limits{Ratio: 2000}); err != nil {
		t.Errorf("two members: %v", err)
	}
}
