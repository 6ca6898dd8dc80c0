package evidencetest

import (
	"fmt"
	"strings"

	"github.com/opscenter/opscenter/internal/evidence"
)

func (p *parser) runtime() {
	r := &evidence.Runtime{}
	r.Process.GOMAXPROCS, r.Process.GOGC = p.e.Instance.Process.GOMAXPROCS, 100
	r.Cgroup.CPUQuotaCores, r.Cgroup.MemoryLimitBytes = p.e.Instance.Process.CPUQuotaCores, p.e.Instance.Process.MemoryLimitBytes
	r.Window.Seconds = p.e.Window.Seconds()
	r.Series.Columns = map[string][]float64{}
	r.Histograms = map[string]evidence.Histogram{}
	r.Memory.Before, r.Memory.After = map[string]float64{}, map[string]float64{}
	p.e.Runtime = r
	p.add = func(line string) error {
		word, rest, _ := strings.Cut(line, " ")
		f := strings.Fields(rest)
		switch word {
		case "seconds":
			r.Series.Seconds = p.floats(f)
		case "series":
			r.Series.Columns[f[0]] = p.floats(f[1:])
		case "histogram":
			r.Histograms[f[0]] = p.histogram(f[1:])
		case "pool":
			p.pool(r, f)
		case "throttled":
			throttled, periods, _ := strings.Cut(f[0], "/")
			r.Cgroup.Version = 2
			r.Cgroup.ThrottledPeriods, r.Cgroup.Periods, r.Cgroup.ThrottledSeconds = p.num(throttled), p.num(periods), p.dur(f[1]).Seconds()
		case "gogc":
			r.Process.GOGC = int(p.num(rest))
		case "gomemlimit":
			r.Process.GoMemoryLimitBytes = p.bytes(rest)
		case "gogc-set":
			r.Setters.GOGC = p.frameList(rest)
		case "gomemlimit-set":
			r.Setters.MemoryLimit = p.frameList(rest)
		case "memory-used":
			r.Cgroup.Version, r.Cgroup.MemoryBytes = 2, p.bytes(rest)
		case "threads":
			r.Series.Columns["ops/threads:threads"] = p.floats(f)
		case "memory":
			if len(f) != 3 {
				return fmt.Errorf("memory NAME BEFORE AFTER")
			}
			r.Memory.Before[f[0]], r.Memory.After[f[0]] = p.float(f[1]), p.float(f[2])
		default:
			return fmt.Errorf("unknown word %q of runtime", word)
		}
		return nil
	}
}

func (p *parser) floats(words []string) []float64 {
	out := make([]float64, len(words))
	for i, w := range words {
		out[i] = p.float(w)
	}
	return out
}

// histogram reads buckets, "UPPER=COUNT", from 0 on.
func (p *parser) histogram(words []string) (h evidence.Histogram) {
	zero := 0.0
	h.Bounds = append(h.Bounds, &zero)
	for _, w := range words {
		bound, count, _ := strings.Cut(w, "=")
		h.Counts = append(h.Counts, uint64(p.num(count)))
		if bound == "inf" {
			h.Bounds = append(h.Bounds, nil)
			continue
		}
		b := p.float(bound)
		h.Bounds = append(h.Bounds, &b)
	}
	return h
}

func (p *parser) pool(r *evidence.Runtime, f []string) {
	if len(f) < 2 {
		p.fail(fmt.Errorf("pool NAME KIND KEY=VALUE…"))
		return
	}
	pool := evidence.Pool{Name: f[0], Kind: f[1], Columns: map[string][]float64{}}
	for key, v := range p.pairs(strings.Join(f[2:], " ")) {
		switch key {
		case "max":
			pool.MaxOpen = p.num(v.text)
		case "remote":
			pool.Remote = v.text
		default:
			pool.Columns[key] = p.floats(strings.Split(v.text, ","))
		}
	}
	r.Pools = append(r.Pools, pool)
}
