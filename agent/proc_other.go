//go:build !linux

package agent

import (
	"runtime/metrics"
	"time"
)

// residentAndThreads estimates from what the Go runtime holds.
func residentAndThreads() (rss, threads int64) {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/sched/threads/total:threads"}}
	metrics.Read(s)
	if s[0].Value.Kind() == metrics.KindUint64 && s[1].Value.Kind() == metrics.KindUint64 {
		rss = int64(s[0].Value.Uint64() - s[1].Value.Uint64())
	}
	if s[2].Value.Kind() == metrics.KindUint64 {
		threads = int64(s[2].Value.Uint64())
	}
	return rss, threads
}

func processStart() time.Time { return time.Now() }
