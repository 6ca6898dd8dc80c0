//go:build !linux

package pod

import (
	"errors"
	"os"
	"runtime/metrics"
)

// There are no control groups here.
func makeGroup(string, string, int64) string { return "" }

func join(string) error { return errors.New("this system has no control groups") }

// resident is what the runtime holds: close to what the system counts, and the
// same everywhere.
func resident() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
}

// die ends the process without a last word, as a kernel would.
func die() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill()
	}
}
