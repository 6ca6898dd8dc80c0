package pod

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// makeGroup makes a control group with a memory limit below our own group, or
// beside it: a group of version 2 that holds processes can have no limited ones
// below it. It returns "" if none can be made. root is "/" except in tests.
func makeGroup(root, name string, bytes int64) string {
	for _, parent := range parents(root) {
		dir := filepath.Join(parent, name)
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		if limit(dir, bytes) {
			return dir
		}
		_ = os.Remove(dir)
	}
	return ""
}

// limit sets the limit of a new group. It is false where the group has none to
// set: the controller is elsewhere.
func limit(dir string, bytes int64) bool {
	set := func(file string, n int64) bool {
		f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
		if err != nil {
			return false
		}
		_, err = f.WriteString(strconv.FormatInt(n, 10))
		return f.Close() == nil && err == nil
	}
	switch {
	case set("memory.max", bytes):
		set("memory.swap.max", 0) // or it would only become slow; not there without swap
	case set("memory.limit_in_bytes", bytes):
		set("memory.memsw.limit_in_bytes", bytes)
	default:
		return false
	}
	return true
}

// parents are the directories in which a group may be made, ours first.
func parents(root string) (out []string) {
	groups := map[string]string{} // controller → path; "" is version 2
	lines(filepath.Join(root, "proc/self/cgroup"), func(line string) {
		if parts := strings.SplitN(line, ":", 3); len(parts) == 3 {
			for c := range strings.SplitSeq(parts[1], ",") {
				groups[c] = parts[2]
			}
		}
	})
	lines(filepath.Join(root, "proc/self/mountinfo"), func(line string) {
		// 35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
		before, after, _ := strings.Cut(line, " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if len(b) < 5 || len(a) < 3 {
			return
		}
		group, controller := "", ""
		switch {
		case a[0] == "cgroup" && strings.Contains(","+a[2]+",", ",memory,"):
			controller = "memory"
		case a[0] != "cgroup2":
			return
		}
		group, in := groups[controller]
		if !in {
			return
		}
		rel, ok := strings.CutPrefix(group, strings.TrimSuffix(b[3], "/"))
		if !ok {
			rel = "/"
		}
		for rel = filepath.Clean("/" + rel); ; rel = filepath.Dir(rel) {
			out = append(out, filepath.Join(root, b[4], rel))
			if rel == "/" {
				return
			}
		}
	})
	return out
}

func lines(file string, each func(string)) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		each(s.Text())
	}
}

// join moves this process into a group, with what it has used so far left behind.
func join(group string) error {
	return os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
}

func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// die ends the process as the kernel would.
func die() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }
