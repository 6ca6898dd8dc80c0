// Package pod gives a process a memory limit at which it is killed, as the pod of
// a cluster has one: by the kernel, with a control group, where whoever starts it
// may make one; else the process kills itself there. It knows nothing of what the
// process does.
package pod

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"time"
)

// What a child learns of its limit by.
const (
	envBytes = "COLORGAME_MEMORY_LIMIT"  // without a group: the process sees to it
	envGroup = "COLORGAME_CONTROL_GROUP" // directory of the group to enter
)

// Pod is a memory limit for one process at a time. Its zero value limits nothing.
type Pod struct {
	bytes int64
	group string // directory; empty = there is no group
}

// New makes a limit. A machine on which no group can be made is no error: see Real.
func New(name string, bytes int64) Pod {
	return Pod{bytes: bytes, group: makeGroup("/", name, bytes)}
}

// Real reports whether the kernel kills.
func (p Pod) Real() bool { return p.group != "" }

// Env is what the process needs in its environment for Enter.
func (p Pod) Env() []string {
	switch {
	case p.bytes == 0:
		return nil
	case p.Real():
		return []string{envGroup + "=" + p.group}
	}
	return []string{fmt.Sprintf("%s=%d", envBytes, p.bytes)}
}

// Close removes the group. Its processes have ended.
func (p Pod) Close() error {
	if !p.Real() {
		return nil
	}
	return os.Remove(p.group)
}

// Limited reports whether this process has a limit that a Pod gave it.
func Limited() bool { return os.Getenv(envGroup) != "" || os.Getenv(envBytes) != "" }

// Enter puts this process under the limit that its environment tells of, if there
// is one. What it starts lasts until ctx ends.
func Enter(ctx context.Context) error {
	if group := os.Getenv(envGroup); group != "" {
		if err := join(group); err != nil {
			return fmt.Errorf("entering the control group %s: %w", group, err)
		}
		return nil
	}
	text := os.Getenv(envBytes)
	if text == "" {
		return nil
	}
	limit, err := strconv.ParseInt(text, 10, 64)
	if err != nil || limit <= 0 {
		return fmt.Errorf("%s is a number of bytes, not %q", envBytes, text)
	}
	// The limit is told where a Go program looks for it when there is no group.
	debug.SetMemoryLimit(limit)
	go func() {
		look := time.NewTicker(lookEvery)
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
				if resident() > limit {
					die()
				}
			}
		}
	}()
	return nil
}

// lookEvery is often enough that a process which grows by 100 MiB a second is no
// more than 2 MiB beyond its limit when it ends.
const lookEvery = 20 * time.Millisecond
