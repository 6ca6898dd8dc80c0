//go:build unix

package measure

import (
	"syscall"
	"time"
)

// Used is what this process has used so far.
func Used() Usage {
	var r syscall.Rusage
	var u Usage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	memory(&u)
	return u
}
