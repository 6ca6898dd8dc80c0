package agent

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroup knows where the process's control group keeps its files, for version 1
// and 2 and for the hybrid of both. Its zero value knows none.
type cgroup struct {
	version int // 0 = none was found
	// Own directory first, then its parents up to the mount: the tightest limit
	// of them counts.
	cpu, memory []string
}

// cgroupLimits are the tightest of the process's control groups; 0 = none.
type cgroupLimits struct {
	cpuQuotaCores float64
	memoryBytes   int64
}

// cgroupCPU counts enforcement periods of the group that throttles most.
type cgroupCPU struct {
	periods, throttled uint64
	throttledSeconds   float64
}

// findCgroup reads /proc/self/cgroup and mountinfo below root, which is "/"
// except in tests.
func findCgroup(root string) *cgroup {
	groups := map[string]string{} // controller → path; "" is version 2
	for line := range readLines(filepath.Join(root, "proc/self/cgroup")) {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			groups[controller] = parts[2]
		}
	}
	c := &cgroup{}
	for line := range readLines(filepath.Join(root, "proc/self/mountinfo")) {
		// 32 31 0:29 /in/fs /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
		before, after, ok := strings.Cut(line, " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if !ok || len(b) < 5 || len(a) < 3 {
			continue
		}
		dirs := func(controller string) []string {
			group, in := groups[controller]
			if !in {
				return nil
			}
			return ancestry(filepath.Join(root, b[4]), b[3], group)
		}
		switch a[0] {
		case "cgroup2":
			// In the hybrid the controllers live in version 1.
			d := dirs("")
			if _, v1 := groups["cpu"]; !v1 && d != nil {
				c.version, c.cpu = 2, d
			}
			if _, v1 := groups["memory"]; !v1 && d != nil {
				c.version, c.memory = 2, d
			}
		case "cgroup":
			for option := range strings.SplitSeq(a[2], ",") {
				switch option {
				case "cpu":
					c.version, c.cpu = 1, dirs("cpu")
				case "memory":
					c.version, c.memory = 1, dirs("memory")
				}
			}
		}
	}
	return c
}

// ancestry lists the directories of a group from its own up to the mount.
// mountRoot is the part of the hierarchy that is mounted: inside a container
// without its own cgroup namespace it is a prefix of the group's path.
func ancestry(mount, mountRoot, group string) []string {
	rel := path.Clean("/" + group)
	if mountRoot != "/" {
		if r, ok := strings.CutPrefix(rel, mountRoot); ok && (r == "" || r[0] == '/') {
			rel = path.Clean("/" + r)
		} else {
			rel = "/"
		}
	}
	var dirs []string
	for {
		dirs = append(dirs, filepath.Join(mount, rel))
		if rel == "/" {
			return dirs
		}
		rel = path.Dir(rel)
	}
}

// limits reads the tightest limits as they are now: they can change while a
// process runs.
func (c *cgroup) limits() (l cgroupLimits) {
	if c == nil {
		return l
	}
	for _, d := range c.cpu {
		quota := 0.0
		if f := strings.Fields(readSmall(filepath.Join(d, "cpu.max"))); len(f) == 2 && f[0] != "max" {
			quota = ratio(f[0], f[1])
		} else if q := readSmall(filepath.Join(d, "cpu.cfs_quota_us")); q != "" && q[0] != '-' {
			quota = ratio(q, readSmall(filepath.Join(d, "cpu.cfs_period_us")))
		}
		if quota > 0 && (l.cpuQuotaCores == 0 || quota < l.cpuQuotaCores) {
			l.cpuQuotaCores = quota
		}
	}
	for _, d := range c.memory {
		for _, name := range []string{"memory.max", "memory.limit_in_bytes"} {
			n, err := strconv.ParseInt(readSmall(filepath.Join(d, name)), 10, 64)
			// Version 1 writes "no limit" as the largest number of whole pages.
			if err == nil && n > 0 && n < 1<<62 && (l.memoryBytes == 0 || n < l.memoryBytes) {
				l.memoryBytes = n
			}
		}
	}
	return l
}

// cpuStat reads how often the group was throttled.
func (c *cgroup) cpuStat() (most cgroupCPU) {
	if c == nil {
		return most
	}
	for _, d := range c.cpu {
		var s cgroupCPU
		for line := range strings.Lines(readSmall(filepath.Join(d, "cpu.stat"))) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				continue
			}
			switch key {
			case "nr_periods":
				s.periods = n
			case "nr_throttled":
				s.throttled = n
			case "throttled_usec":
				s.throttledSeconds = float64(n) / 1e6
			case "throttled_time":
				s.throttledSeconds = float64(n) / 1e9
			}
		}
		if s.throttled > most.throttled || most.periods == 0 {
			most = s
		}
	}
	return most
}

// memoryBytes is what the group uses now; 0 = unknown.
func (c *cgroup) memoryBytes() int64 {
	if c == nil || len(c.memory) == 0 {
		return 0
	}
	for _, name := range []string{"memory.current", "memory.usage_in_bytes"} {
		if n, err := strconv.ParseInt(readSmall(filepath.Join(c.memory[0], name)), 10, 64); err == nil {
			return n
		}
	}
	return 0
}

func ratio(a, b string) float64 {
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	if err1 != nil || err2 != nil || y <= 0 || x <= 0 || math.IsInf(x, 0) {
		return 0
	}
	return x / y
}

// readSmall returns a kernel file's text without the last newline; "" on error.
func readSmall(name string) string {
	b, err := os.ReadFile(name)
	if err != nil || len(b) > 64<<10 {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

func readLines(name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		f, err := os.Open(name)
		if err != nil {
			return
		}
		defer func() { _ = f.Close() }()
		s := bufio.NewScanner(f)
		for s.Scan() {
			if !yield(s.Text()) {
				return
			}
		}
	}
}
