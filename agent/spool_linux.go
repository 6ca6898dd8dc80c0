package agent

import (
	"math"
	"syscall"
)

// tmpfsAllowance bounds what a spool in memory may hold: a quarter of what the
// process's control group has left, for its files count as its memory. It is
// unlimited on a disk.
func tmpfsAllowance(dir string) int64 {
	var fs syscall.Statfs_t
	if syscall.Statfs(dir, &fs) != nil {
		return math.MaxInt64
	}
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	if t := uint32(fs.Type); t != tmpfs && t != ramfs {
		return math.MaxInt64
	}
	c := findCgroup("/")
	limit := c.limits().memoryBytes
	if limit == 0 {
		return math.MaxInt64
	}
	return max((limit-c.memoryBytes())/4, minTraceMaxBytes)
}
