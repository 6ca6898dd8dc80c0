package agent

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opscenter/opscenter/agent/internal/setters"
)

// collectorSetters remembers which lines of the program set what the collector
// works by: they are looked for once, and only where it matters.
type collectorSetters struct {
	mu    sync.Mutex // one look at a time; guards what follows
	tried bool
	found setters.Found
}

// of returns the lines that set the memory limit and GOGC, where neither the
// environment nor a control says what holds. Where they cannot be known there are
// none: a verdict then says nothing of them.
func (s *collectorSetters) of(a *Agent, gogc int32, limit int64) (limitAt, gogcAt []setters.Line) {
	byLimit := limit > 0 && limit != memoryLimitOf(os.Getenv("GOMEMLIMIT")) && !a.controls.holds("memory-limit")
	byGOGC := gogc != gogcOf(os.Getenv("GOGC")) && !a.controls.holds("gogc")
	if !byLimit && !byGOGC {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tried {
		s.tried = true
		s.found, _ = setters.Find()
		// What the agent calls it calls because somebody asks for it.
		own := func(l setters.Line) bool { return strings.HasPrefix(l.Function, ownPackage) }
		s.found.MemoryLimit = slices.DeleteFunc(s.found.MemoryLimit, own)
		s.found.GCPercent = slices.DeleteFunc(s.found.GCPercent, own)
	}
	if byLimit {
		limitAt = s.found.MemoryLimit
	}
	if byGOGC {
		gogcAt = s.found.GCPercent
	}
	return limitAt, gogcAt
}

// ownPackage begins the names of the agent's functions.
const ownPackage = "github.com/opscenter/opscenter/agent."

// memoryLimitOf is what the runtime makes of GOMEMLIMIT; 0 = none.
func memoryLimitOf(env string) int64 {
	if n, err := strconv.ParseInt(env, 10, 64); err == nil {
		return n
	}
	if n, err := parseSize(env); err == nil {
		return n
	}
	return 0
}

// gogcOf is what the runtime makes of GOGC; -1 = off.
func gogcOf(env string) int32 {
	if env == off {
		return -1
	}
	if n, err := strconv.ParseInt(env, 10, 32); err == nil {
		return int32(max(n, -1))
	}
	return 100
}
