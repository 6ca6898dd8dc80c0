//go:build !linux

package toolui

import (
	"os"
	"syscall"
)

// Elsewhere children end when they see that their standard input has ended, and
// keep to GOMEMLIMIT.

func childAttributes() *syscall.SysProcAttr { return nil }

func killGroup(p *os.Process) { _ = p.Kill() }

func limitMemory(int, int64) error { return nil }

func residentBytes(int) int64 { return 0 }

func hostMemory() int64 { return 0 }
