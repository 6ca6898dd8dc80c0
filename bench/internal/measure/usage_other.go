//go:build !unix

package measure

import "time"

// Used is what this process has used so far: here only Unix says.
func Used() Usage { return Usage{} }

// CPU is the CPU time this process has used so far.
func CPU() time.Duration { return 0 }
