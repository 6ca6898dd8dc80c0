package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// off and auto are values that stand for no number.
const (
	off  = "off"
	auto = "auto"
)

// builtins makes the controls that every agent has.
func (a *Agent) builtins() []*control {
	all := []*control{
		newControl(Control{
			Name: "gc", Description: "Run a garbage collection now",
			Effect: "Marks the whole live heap: about 0.4 CPU seconds per GB, beside what the process does.",
			Undo:   "Nothing to undo.", Timeout: time.Minute, Func: collectGarbage,
		}),
		newControl(Control{
			Name: "free-os-memory", Description: "Collect garbage and give unused memory back to the operating system",
			Effect: "A garbage collection, and then page faults when the memory is needed again.",
			Undo:   "Nothing to undo.", Timeout: time.Minute, Func: freeMemory,
		}),
		newControl(Control{
			Name: "build-info", Description: "Show what the program was built from", ReadOnly: true, Func: buildInfo,
		}),
		newControl(Control{
			Name: "environment", Description: "Show the environment variables; secrets are masked", ReadOnly: true,
			Func: func(context.Context, Args) (any, error) { return environment(os.Environ()), nil },
		}),
		newControl(Control{
			Name: "flags", Description: "Show the command line and the flags; secrets are masked", ReadOnly: true, Func: commandLine,
		}),
		a.setting(Control{
			Name: "gogc", Description: "Set how much the heap grows between garbage collections (GOGC)",
			Params: []Param{{Name: "percent", Description: "growth over the live heap; off needs a memory limit", Type: Int, Min: "10", Max: "100000", Choices: []string{off}, Required: true}},
			Effect: "Lower: less memory, more CPU for the collector. Higher: the reverse. Setting it stops the world for an instant.",
			Undo:   "Goes back to the percentage that the program had.",
		}, gogcKnob{}),
		a.setting(Control{
			Name: "memory-limit", Description: "Set the memory limit that the collector works towards (GOMEMLIMIT)",
			Params: []Param{{Name: "limit", Description: "of all memory that the Go runtime manages", Type: Size, Min: "16MiB", Choices: []string{off}, Required: true}},
			Effect: "Near the limit the collector runs more and more often. A limit below what is live is refused: it would collect without end.",
			Undo:   "Goes back to the limit that the program had.",
		}, memoryLimitKnob{}),
		a.setting(Control{
			Name: "gomaxprocs", Description: "Set how many threads run Go code at once (GOMAXPROCS)",
			Params: []Param{{Name: "procs", Description: "auto follows the CPU quota and the number of CPUs", Type: Int, Min: "1", Max: strconv.Itoa(4 * runtime.NumCPU()), Choices: []string{auto}, Required: true}},
			Effect: "Stops the world for an instant. A number switches off that the runtime follows a change of the CPU quota.",
			Undo:   "Goes back to automatic where it was, else to the number that the program had.",
		}, a.newProcsKnob()),
		a.setting(Control{
			Name: "block-rate", Description: "Set the block profile rate",
			Params: []Param{{Name: "rate", Description: "one sample per so much time blocked; 1ns records every event", Type: Duration, Min: "1ns", Max: "1s", Choices: []string{off}, Required: true}},
			Effect: "Every recorded event costs a stack: a channel ping-pong takes 1.95 times as long with 1ns, 1.46 times with 10µs. A capture sets its own rate and goes back to this one.",
			Undo:   "Goes back to the program's own rate, after a capture that runs has ended.",
		}, &blockKnob{rates: &theRuntime.rates}),
		a.setting(Control{
			Name: "mutex-fraction", Description: "Set the mutex profile fraction",
			Params: []Param{{Name: "fraction", Description: "one of so many contention events; 1 records every event", Type: Int, Min: "1", Max: "1000000", Choices: []string{off}, Required: true}},
			Effect: "Every recorded event costs a stack. A capture sets its own fraction and goes back to this one.",
			Undo:   "Goes back to the program's own fraction, after a capture that runs has ended.",
		}, mutexKnob{rates: &theRuntime.rates}),
	}
	all = append(all, a.logLevelControl(), a.drainControl(), a.flightControl())
	for _, c := range all {
		c.builtin = true
	}
	slices.SortFunc(all, func(x, y *control) int { return strings.Compare(x.Name, y.Name) })
	return all
}

// setting makes a control of a knob.
func (a *Agent) setting(c Control, k knob) *control {
	out := newControl(c)
	out.set = &setting{agent: a, name: c.Name, knob: k, turn: out.turn}
	return out
}

func (a *Agent) logLevelControl() *control {
	c := a.setting(Control{
		Name: "log-level", Description: "Set the least level that the service logs",
		Params: []Param{{Name: "level", Type: Enum, Choices: []string{"debug", "info", "warn", "error"}, Required: true}},
		Effect: "debug can be a multiple of the usual log, and of the time that it takes.",
		Undo:   "Goes back to the level that the service had.",
	}, levelKnob{a.cfg.logLevel})
	if a.cfg.logLevel == nil {
		c.unavailable = func() string {
			return "the service has given its agent no log level: set agent.Config.LogLevel, for example to its slog.LevelVar"
		}
	}
	return c
}

func (a *Agent) drainControl() *control {
	c := a.setting(Control{
		Name: "drain", Description: "Take the instance out of service, or back in",
		Params: []Param{{Name: "state", Description: "on takes it out", Type: Enum, Choices: []string{"on", "off"}, Default: "on"}},
		Effect: "What the service does to drain: usually it fails its readiness check and takes nothing new.",
		Undo:   "off, or the end of its time to live, takes it back in.", Timeout: time.Minute,
	}, &drainKnob{hook: a.cfg.drain})
	c.set.keepOnClose = true // a process that ends must not take itself back in
	if a.cfg.drain == nil {
		c.unavailable = func() string {
			return "the service has not said how it drains: set agent.Config.Drain"
		}
	}
	return c
}

// collected is what a forced collection did.
type collected struct {
	HeapBeforeBytes uint64  `json:"heap_before_bytes"`
	HeapAfterBytes  uint64  `json:"heap_after_bytes"`
	ReleasedBytes   uint64  `json:"released_bytes"` // given back to the operating system in all
	TookSeconds     float64 `json:"took_seconds"`
}

func collectGarbage(context.Context, Args) (any, error) { return collecting(runtime.GC) }
func freeMemory(context.Context, Args) (any, error)     { return collecting(debug.FreeOSMemory) }

func collecting(collect func()) (any, error) {
	heap, _ := heapNow()
	began := time.Now()
	collect()
	after, released := heapNow()
	return collected{heap, after, released, time.Since(began).Seconds()}, nil
}

func heapNow() (objects, released uint64) {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64(), s[1].Value.Uint64()
}

type gogcKnob struct{}

func (gogcKnob) value() string {
	percent, _ := gcSettings()
	if percent < 0 {
		return off
	}
	return strconv.Itoa(int(percent))
}

func (gogcKnob) read(a Args) (string, error) {
	if a.Word("percent") != off {
		return strconv.FormatInt(a.Int("percent"), 10), nil
	}
	if _, limit := gcSettings(); limit == 0 {
		return "", errors.New("without a memory limit nothing would bound the heap: set memory-limit first")
	}
	return off, nil
}

func (gogcKnob) set(_ context.Context, value string) error {
	percent := -1
	if value != off {
		var err error
		if percent, err = strconv.Atoi(value); err != nil {
			return err
		}
	}
	debug.SetGCPercent(percent)
	return nil
}

func (k gogcKnob) restore(ctx context.Context, original string) error { return k.set(ctx, original) }

type memoryLimitKnob struct{}

func (memoryLimitKnob) value() string {
	if _, limit := gcSettings(); limit > 0 {
		return sizeText(limit)
	}
	return off
}

func (memoryLimitKnob) read(a Args) (string, error) {
	if a.Word("limit") == off {
		return off, nil
	}
	limit := a.Int("limit")
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if live := s[0].Value.Uint64(); uint64(limit) < live {
		return "", fmt.Errorf("%s is less than the %s that were live at the last collection: the collector would run without end. Use more", sizeText(limit), sizeText(int64(live)))
	}
	return sizeText(limit), nil
}

func (memoryLimitKnob) set(_ context.Context, value string) error {
	limit := int64(math.MaxInt64)
	if value != off {
		var err error
		if limit, err = parseSize(value); err != nil {
			return err
		}
	}
	debug.SetMemoryLimit(limit)
	return nil
}

func (k memoryLimitKnob) restore(ctx context.Context, original string) error {
	return k.set(ctx, original)
}

// procsKnob is GOMAXPROCS. Whether the runtime chooses the number itself cannot
// be read, so it is remembered.
type procsKnob struct{ automatic atomic.Bool }

// newProcsKnob concludes that the number is automatic when nobody has said one:
// neither the service to its agent, nor the environment, nor has it another value
// than the runtime would choose.
func (a *Agent) newProcsKnob() *procsKnob {
	k := &procsKnob{}
	k.automatic.Store(!a.cfg.fixedProcs && os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) == defaultProcs(runtime.NumCPU(), a.self.cgroup.limits().cpuQuotaCores))
	return k
}

// defaultProcs is what the runtime chooses: the CPUs, or the quota of the control
// group rounded up, but not less than two because of it.
func defaultProcs(cpus int, quota float64) int {
	if quota <= 0 {
		return cpus
	}
	return min(cpus, max(2, int(math.Ceil(quota))))
}

func (k *procsKnob) value() string {
	if k.automatic.Load() {
		return auto
	}
	return strconv.Itoa(runtime.GOMAXPROCS(0))
}

func (*procsKnob) read(a Args) (string, error) {
	if a.Word("procs") == auto {
		return auto, nil
	}
	return strconv.FormatInt(a.Int("procs"), 10), nil
}

func (k *procsKnob) set(_ context.Context, value string) error {
	if value == auto {
		runtime.SetDefaultGOMAXPROCS()
		k.automatic.Store(true)
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(n)
	k.automatic.Store(false)
	return nil
}

func (k *procsKnob) restore(ctx context.Context, original string) error { return k.set(ctx, original) }

// blockKnob is the block profile rate, through the arbiter that captures use.
type blockKnob struct{ rates *rates }

func (k *blockKnob) value() string {
	nanos, ticks, held := k.rates.blockNow()
	switch {
	case held && nanos == 0, !held && ticks == 0:
		return off
	case held:
		return time.Duration(nanos).String()
	case ticks == 1:
		return time.Nanosecond.String()
	}
	return "" // the program's own, in a unit that is not the setter's, or unreadable
}

func (*blockKnob) read(a Args) (string, error) {
	if a.Word("rate") == off {
		return off, nil
	}
	return a.Duration("rate").String(), nil
}

func (k *blockKnob) set(_ context.Context, value string) error {
	if value == off {
		return k.rates.controlBlock(0)
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return err
	}
	return k.rates.controlBlock(int(d))
}

func (k *blockKnob) restore(context.Context, string) error {
	k.rates.endControl(&k.rates.ctlBlock)
	return nil
}

// mutexKnob is the mutex profile fraction.
type mutexKnob struct{ rates *rates }

func (k mutexKnob) value() string {
	if n := k.rates.mutexNow(); n > 0 {
		return strconv.Itoa(n)
	}
	return off
}

func (mutexKnob) read(a Args) (string, error) {
	if a.Word("fraction") == off {
		return off, nil
	}
	return strconv.FormatInt(a.Int("fraction"), 10), nil
}

func (k mutexKnob) set(_ context.Context, value string) error {
	if value == off {
		return k.rates.controlMutex(0)
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return err
	}
	return k.rates.controlMutex(n)
}

func (k mutexKnob) restore(context.Context, string) error {
	k.rates.endControl(&k.rates.ctlMutex)
	return nil
}

type levelKnob struct{ level LogLevel }

func (k levelKnob) value() string             { return strings.ToLower(k.level.Level().String()) }
func (levelKnob) read(a Args) (string, error) { return a.String("level"), nil }
func (k levelKnob) set(_ context.Context, value string) error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(value)); err != nil {
		return err
	}
	k.level.Set(l)
	return nil
}

func (k levelKnob) restore(ctx context.Context, original string) error { return k.set(ctx, original) }

// drainKnob calls the service's hook and remembers what it asked for last.
type drainKnob struct {
	hook func(ctx context.Context, drain bool) error
	out  atomic.Bool
}

func (k *drainKnob) value() string {
	if k.out.Load() {
		return "on"
	}
	return off
}

func (*drainKnob) read(a Args) (string, error) { return a.String("state"), nil }

func (k *drainKnob) set(ctx context.Context, value string) error {
	if err := k.hook(ctx, value == "on"); err != nil {
		return err
	}
	k.out.Store(value == "on")
	return nil
}

func (k *drainKnob) restore(ctx context.Context, original string) error { return k.set(ctx, original) }
