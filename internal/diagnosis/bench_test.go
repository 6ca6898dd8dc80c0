package diagnosis

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/opscenter/opscenter/internal/evidence"
)

// A service in which everything is stuck at once: 20,000 goroutines at 4,000 places,
// at 700 different locks among them.
func BenchmarkDumpOfEverythingStuck(b *testing.B) {
	dump := stuckDump(20_000, 4_000)
	e, err := evidence.Load(b.Context(), []evidence.File{{Name: "goroutine-dump.txt", Reader: bytes.NewReader(dump), Size: int64(len(dump))}}, evidence.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Diagnose(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}

func stuckDump(goroutines, places int) []byte {
	leaves := []struct{ state, function string }{
		{"chan receive", "runtime.chanrecv1"}, {"select", "runtime.selectgo"}, {"semacquire", "sync.runtime_Semacquire"},
		{"IO wait", "internal/poll.runtime_pollWait"}, {"sync.Mutex.Lock", "internal/sync.(*Mutex).lockSlow"}, {"chan send", "runtime.chansend1"},
	}
	var w bytes.Buffer
	for i := range goroutines {
		k := i % places
		leaf := leaves[k%len(leaves)]
		fmt.Fprintf(&w, "goroutine %d [%s, %d minutes]:\n%s(0xc000123456)\n\t/go/src/runtime.go:%d +0x1d\n", i+10, leaf.state, k%50, leaf.function, k%9+1)
		for d := range 12 {
			fmt.Fprintf(&w, "example.com/game/p%d.(*T%d).Method%d(0xc000123456)\n\t/src/game/p%d/f%d.go:%d +0x1d\n", (k*7+d)%40, (k+d)%100, (k*3+d)%500, (k*7+d)%40, (k+d)%30, (k*13+d)%900+1)
		}
		fmt.Fprintf(&w, "created by example.com/game/p%d.Start%d in goroutine 1\n\t/src/game/p%d/s.go:%d +0x2c\n\n", k%40, k%200, k%40, k%300+1)
	}
	return w.Bytes()
}
