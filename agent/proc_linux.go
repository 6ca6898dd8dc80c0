package agent

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"
)

// residentAndThreads reads the process's resident memory and its threads; zero
// where /proc does not say.
func residentAndThreads() (rss, threads int64) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0
	}
	for line := range bytes.Lines(b) {
		switch {
		case bytes.HasPrefix(line, []byte("VmRSS:")):
			if f := bytes.Fields(line); len(f) >= 2 {
				kib, _ := strconv.ParseInt(string(f[1]), 10, 64)
				rss = kib << 10
			}
		case bytes.HasPrefix(line, []byte("Threads:")):
			if f := bytes.Fields(line); len(f) >= 2 {
				threads, _ = strconv.ParseInt(string(f[1]), 10, 64)
			}
		}
	}
	return rss, threads
}

// processStart reads when the process began, to a hundredth of a second.
func processStart() time.Time {
	now := time.Now()
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return now
	}
	// The second field is the program's name in parentheses and may hold anything.
	_, rest, ok := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return now
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return now
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return now
	}
	up, err := strconv.ParseFloat(strings.Fields(string(uptime) + " ")[0], 64)
	if err != nil {
		return now
	}
	const userHz = 100 // the kernel's unit towards user space on every Linux port of Go
	age := time.Duration((up - float64(ticks)/userHz) * float64(time.Second))
	if age < 0 {
		return now
	}
	return now.Add(-age)
}
