// Package memory has the rules about what a process keeps: goroutines that never
// end, objects that are never let go, connections and timers that nobody gives
// back, and work that is started faster than it is done. It judges one window at
// a time and knows nothing of other families of rules.
package memory

import (
	"math"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// Rules of the family.
func Rules() []rule.Rule {
	return []rule.Rule{goroutineLeak(), heapGrowth(), retainedObjects(), unboundedConcurrency(), responseBodyLeak(), timerLeak()}
}

// scenario of the guide that all of these belong to: memory grows until the
// process is killed.
const scenario = 5

// again is a capture that shows growth better than the present one.
func again(kinds ...ops.Kind) *ops.NextCapture {
	return &ops.NextCapture{Kinds: kinds, Duration: 30 * time.Second}
}

// outer is the function in whose source a function is written: "main.fetch" of
// "main.fetch.func1.2", "main.(*lease).fire" of "main.(*lease).fire-fm".
func outer(function string) string {
	name := strings.TrimSuffix(function, "-fm")
	for {
		dot := strings.LastIndexByte(name, '.')
		if dot < 0 {
			return name
		}
		last := name[dot+1:]
		if !made(last) {
			return name
		}
		name = name[:dot]
	}
}

// made reports whether the compiler made the last part of a function's name:
// "func1", "gowrap2", "deferwrap1", "1".
func made(part string) bool {
	digits := strings.TrimLeft(part, "abcdefghijklmnopqrstuvwxyz")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return false
	}
	switch part[:len(part)-len(digits)] {
	case "", "func", "gowrap", "deferwrap":
		return true
	}
	return false
}

// receiver is the type of a method: "main.(*session)" of "main.(*session).pump";
// "" of a function.
func receiver(function string) string {
	name := outer(function)
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return ""
	}
	name = name[:dot]
	slash := strings.LastIndexByte(name, '/')
	if !strings.Contains(name[slash+1:], ".") {
		return "" // a package
	}
	return name
}

// unsaidWindow is taken for the time between two snapshots if nothing says it: long
// rather than short, lest rates be exaggerated.
const unsaidWindow = 30 * time.Second

// windowOf is the time between the goroutine snapshots: if they say when they were
// taken, else the window's.
func windowOf(e *evidence.Evidence) time.Duration {
	if a, b := e.GoroutinesBefore, e.Goroutines; a != nil && b != nil && !a.Taken.IsZero() && b.Taken.Sub(a.Taken) >= time.Second {
		return b.Taken.Sub(a.Taken)
	}
	return said(e)
}

// heapWindow is the time between the heap profiles.
func heapWindow(e *evidence.Evidence) time.Duration {
	if a, b := e.HeapBefore, e.Heap; a != nil && b != nil && a.Source != nil && b.Source != nil && a.Source.TimeNanos > 0 {
		if d := time.Duration(b.Source.TimeNanos - a.Source.TimeNanos); d > 0 && d < 30*24*time.Hour {
			return d
		}
	}
	return said(e)
}

func said(e *evidence.Evidence) time.Duration {
	if e.Window <= 0 {
		return unsaidWindow
	}
	return max(e.Window, time.Second)
}

// about rounds to two digits, which is what an extrapolation is worth.
func about(v float64) int64 {
	if v < 1 {
		return 0
	}
	unit := math.Pow(10, max(0, math.Floor(math.Log10(v))-1))
	return int64(math.Round(v/unit) * unit)
}
