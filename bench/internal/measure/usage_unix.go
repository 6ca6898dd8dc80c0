//go:build unix

package measure

import (
	"syscall"
	"time"
)

// Used is what this process has used so far.
func Used() Usage {
	u := Usage{CPU: CPU()}
	memory(&u)
	return u
}

// CPU is the CPU time this process has used so far.
func CPU() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
