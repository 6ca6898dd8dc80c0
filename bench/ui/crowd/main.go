// Command crowd is 5,000 agents of a lively fleet: projects, services, versions
// in a rolling deploy, and a few instances in every kind of trouble. They speak
// the real protocol to a centre that runs already, until they are interrupted.
//
//	go run ./cmd/ops serve --heartbeat 1s &
//	go run ./bench/ui/crowd -n 5000
//
// It measures nothing itself: bench/ui/fleet.mjs does, in a browser.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/opscenter/opscenter/bench/internal/crowd"
	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

func main() {
	log.SetFlags(0)
	n := flag.Int("n", 5000, "agents")
	centre := flag.String("centre", "127.0.0.1:8080", "the centre's `address`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := crowd.Run(ctx, crowd.Config{Centre: *centre, N: *n, Name: name, Hello: hello, Beat: beat})
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

var (
	projects = [...]string{"color-game", "slot-engine", "poker", "fishing", "platform"}
	services = [...]string{"gateway", "room", "wallet", "user", "record", "match", "chat", "payment"}
)

func name(n int) (project, service, bootID string) {
	return projects[n%len(projects)], services[n/len(projects)%len(services)] + "-service", fmt.Sprintf("boot-%06d", n)
}

func hello(n int) *agentv1.HelloResponse {
	version := "v1.42.1"
	if n%9 == 0 { // a deploy is on its way
		version = "v1.43.0-rc1"
	}
	return &agentv1.HelloResponse{
		AgentVersion: "bench",
		Labels:       map[string]string{"zone": fmt.Sprintf("z%d", n%3), "pod": fmt.Sprintf("pod-%05d", n)},
		Build: &agentv1.BuildInfo{
			GoVersion: runtime.Version(), ModulePath: "example.com/game", ModuleVersion: version,
			VcsRevision: fmt.Sprintf("%040x", n%9), Goos: runtime.GOOS, Goarch: runtime.GOARCH,
		},
		Process: &agentv1.ProcessInfo{
			Pid: int32(1000 + n), Hostname: fmt.Sprintf("host-%05d", n*7919%100_000), StartTime: timestamppb.New(time.Now().Add(-time.Duration(n%200) * time.Hour)),
			Gomaxprocs: 4, NumCpu: 64, CpuQuotaCores: 4, MemoryLimitBytes: 512 << 20, Executable: "/usr/bin/game",
		},
		Kinds: []agentv1.Kind{agentv1.Kind_KIND_CPU, agentv1.Kind_KIND_HEAP, agentv1.Kind_KIND_GOROUTINE, agentv1.Kind_KIND_TRACE},
	}
}

// beat waves about what is usual for number n; one in fifty is in trouble.
func beat(n int, beat int64) *agentv1.Heartbeat {
	wave := 1 + math.Sin(float64(beat)/9+float64(n))/3
	h := &agentv1.Heartbeat{
		CpuCores: 0.9 * wave, CpuQuotaCores: 4, Gomaxprocs: 4, Threads: 11 + int64(n%9),
		Goroutines: int64(float64(200+n%900) * wave), LiveHeapBytes: int64(float64(40+n%90)*wave) << 20, RssBytes: int64(120+n%150) << 20, MemoryLimitBytes: 512 << 20,
		GcCpuFraction: 0.01 * wave, SchedLatencyP99Seconds: 0.0002 * wave, HeapObjects: 400_000 + beat, GcCycles: beat, MutexWaitRate: 0.01 * wave,
	}
	h.GoroutinesWaiting = h.GetGoroutines() - 3
	h.GoroutinesRunning, h.GoroutinesRunnable = 2, 1
	switch n % 300 {
	case 7:
		h.CpuCores = 3.98
	case 51:
		h.CpuCores, h.ThrottledFraction = 3.6, 0.22
	case 102:
		h.RssBytes = 500 << 20
	case 153:
		h.SchedLatencyP99Seconds = 0.031
	case 204:
		h.PoolWaiters = 1 + beat%9
	case 255:
		h.PoolWaiters, h.GcCpuFraction = 40, 0.31
	}
	return h
}
