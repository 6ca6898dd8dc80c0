// Package evidencetest makes evidence of text, so that a case of a rule can be
// read, and pasted into a report, without any tool. It is for tests alone.
//
// A case begins with what is known of the process, a line each:
//
//	go go1.26.8
//	module example.com/shop
//	service record-service
//	window 10s
//	procs 2
//	quota 1.5
//	memory-limit 512MiB
//	agentless
//	trigger place-bet 50ms          (the call on which a rule fired)
//	lost block in_use another profiler is at work
//
// Artifacts follow, each under a heading. A stack is frames from the leaf to the
// root, "function file:line", with " < " between them.
//
//	-- cpu --
//	9.8s | golang.org/x/crypto/bcrypt.bcrypt bcrypt.go:220 < main.login login.go:42
//	-- heap --                    (also heap.before, allocs: objects, bytes)
//	104211 38MiB | main.newSession session.go:10 < main.join hub.go:7
//	-- block --                   (also mutex: count, delay; "block whole" is since the process began)
//	310 38s | runtime.chansend1 chan.go:160 < main.push hub.go:88
//	-- leaks --
//	12 | main.wait wait.go:3
//	-- goroutines --              (also goroutines.before, dump: count, state)
//	300 chan send | runtime.gopark proc.go:435 < main.push hub.go:88
//	300 chan send aged 12m 40m | main.push hub.go:88 | created by main.serve hub.go:20
//	1 select forever | main.idle idle.go:3
//	9 chan receive locked | main.record camera.go:18     (to their threads)
//	-- trace 5s --
//	procs 2
//	created 100
//	seen 130
//	group main.worker n=8 born=2 died=1 running=3s runnable=20ms network=5s starts=90 max=1ms
//	site network 10 4.5s max=600ms open=3 whole=2 visits=4 start=main.worker lock=mutex | main.read a.go:1
//	wake 10 4.5s | main.lock a.go:1 | main.unlock a.go:3
//	create 2 main.worker | main.serve a.go:20
//	lock mutex waits=195 total=80s max=1s slow=190 slowtotal=79s handoff=3ms conflicts=2 | sync.(*Mutex).Lock mutex.go:46 < main.pay a.go:9
//	exact n=188 total=78s max=1s median=400ms waiting=188 inside=75s running=2s
//	inside network 188 75s | net.(*conn).Read net.go:194 < main.pay a.go:11
//	end 188 78s | main.pay a.go:12
//	atleast n=7 total=1s
//	unlock 188 | main.pay a.go:12
//	slow place-bet 1s 1.06s 7 | main.bet a.go:6
//	spent running=2ms network=58ms          (of the call above)
//	callwait network 1 58ms 1s 1.058s | net.(*conn).Read net.go:194 < main.ask a.go:4 |
//	behind sleep 1 50ms 1s 1.05s | main.hold a.go:8 | main.give a.go:9        (of a callwait for a lock)
//	latency 1000 3s p50=1µs p99=9ms p999=20ms max=30ms
//	gc 10ms 30ms
//	stw 1ms 1.2ms stop-the-world (GC mark termination)
//	heap 1s 12MiB
//	sample 10 | main.hash a.go:5
//	yield 90000 | runtime.Gosched proc.go:390 < main.poll a.go:7
//	stop 23297 1.56s 4.9ms read mem stats | runtime.ReadMemStats mstats.go:358 < main.stat a.go:23
//	-- runtime --
//	seconds 0 1 2
//	series ops/cpu:cores 0 0.1 0.1
//	histogram /sched/latencies:seconds 0.001=88 0.01=3 inf=1
//	pool records pgxpool max=20 remote=db:5432 in_use=20,20,20 wait_count=10,90,170
//	throttled 12/30 1.5s
//	gogc 100
//	gomemlimit 256MiB
//	gomemlimit-set main.run a.go:3 < main.main a.go:9   (the lines that set it, each one; gogc-set alike)
//	threads 900
//	memory /gc/heap/live:bytes 1000 2000
//	-- types --                   (objects, bytes, samples, form, type)
//	104211 38MiB 120 new ws.Client | main.newClient a.go:3 | map[string]*ws.Client, []*ws.Client
//
// Lines that begin with # are notes.
package evidencetest

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// Parse reads a case. A mistake in it ends the test with the line's number.
func Parse(t testing.TB, text string) *evidence.Evidence {
	t.Helper()
	p := &parser{e: &evidence.Evidence{}}
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		p.line++
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := p.take(line); err != nil {
			t.Fatalf("line %d: %q: %v", p.line, line, err)
		}
	}
	p.frames() // a case without any artifact has a vocabulary too
	return p.e
}

type parser struct {
	e       *evidence.Evidence
	module  string
	line    int
	section string
	add     func(line string) error
	bad     error
}

func (p *parser) take(line string) (err error) {
	p.bad = nil
	if name, ok := strings.CutPrefix(line, "-- "); ok {
		err = p.begin(strings.Fields(strings.TrimSuffix(name, "--")))
	} else if p.add != nil {
		err = p.add(line)
	} else {
		err = p.header(line)
	}
	if err == nil {
		err = p.bad
	}
	return err
}

func (p *parser) header(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	i := &p.e.Instance
	switch word {
	case "go":
		i.Build.GoVersion = rest
	case "module":
		i.Build.ModulePath, p.module = rest, rest
	case "service":
		i.Service = ops.ServiceName(rest)
	case "window":
		p.e.Window = p.dur(rest)
	case "procs":
		i.Process.GOMAXPROCS = int(p.num(rest))
	case "quota":
		i.Process.CPUQuotaCores = p.float(rest)
	case "memory-limit":
		i.Process.MemoryLimitBytes = p.bytes(rest)
	case "age": // of the process, when the window began
		p.e.Start = time.Unix(1_700_000_000, 0)
		i.Process.StartTime = p.e.Start.Add(-p.dur(rest))
	case "trigger":
		name, took, _ := strings.Cut(rest, " ")
		p.e.Trigger = &ops.Call{Name: name, Took: p.dur(took)}
	case "agentless":
		i.Agentless = true
	case "lost":
		f := strings.SplitN(rest, " ", 3)
		if len(f) < 3 {
			return fmt.Errorf("lost KIND REASON MESSAGE")
		}
		p.e.Losses = append(p.e.Losses, ops.Loss{Kind: ops.Kind(f[0]), Reason: ops.LossReason(f[1]), Message: f[2]})
	default:
		return fmt.Errorf("unknown word %q", word)
	}
	return nil
}

func (p *parser) begin(words []string) error {
	if len(words) == 0 {
		return fmt.Errorf("a heading names an artifact")
	}
	p.section = words[0]
	whole := len(words) > 1 && words[1] == "whole"
	switch p.section {
	case "cpu":
		p.e.CPU = p.profile(ops.KindCPU, false, "samples/count", "cpu/nanoseconds")
		p.e.CPU.Duration = p.e.Window
	case "heap":
		p.e.Heap = p.profile(ops.KindHeap, false, heapTypes...)
	case "heap.before":
		p.e.HeapBefore = p.profile(ops.KindHeap, false, heapTypes...)
	case "allocs":
		p.e.Allocs = p.profile(ops.KindAllocs, whole, heapTypes...)
	case "block":
		p.e.Block = p.profile(ops.KindBlock, whole, "contentions/count", "delay/nanoseconds")
	case "mutex":
		p.e.Mutex = p.profile(ops.KindMutex, whole, "contentions/count", "delay/nanoseconds")
	case "leaks":
		p.e.Leaks = p.profile(ops.KindGoroutineLeak, false, "goroutineleak/count")
	case "goroutines":
		p.e.Goroutines = p.goroutines(goroutines.Protobuf)
	case "goroutines.before":
		p.e.GoroutinesBefore = p.goroutines(goroutines.Protobuf)
	case "dump":
		p.e.Dump = p.goroutines(goroutines.Dump)
	case "trace":
		p.trace(words[1:])
	case "runtime":
		p.runtime()
	case "types":
		p.e.Types = &evidence.HeapTypes{}
		p.add = p.heapType
	default:
		return fmt.Errorf("unknown artifact %q", p.section)
	}
	return nil
}

var heapTypes = []string{"alloc_objects/count", "alloc_space/bytes", "inuse_objects/count", "inuse_space/bytes"}

func (p *parser) profile(k ops.Kind, whole bool, types ...string) *evidence.Profile {
	out := &evidence.Profile{Kind: k, Whole: whole, Observer: make([]int64, len(types))}
	for _, t := range types {
		name, unit, _ := strings.Cut(t, "/")
		out.Types = append(out.Types, profile.ValueType{Type: name, Unit: unit})
	}
	p.add = func(line string) error {
		figures, stack := p.stack(line)
		f := strings.Fields(figures)
		r := evidence.Row{Stack: stack, Values: make([]int64, len(types))}
		switch {
		case k == ops.KindCPU && len(f) == 1:
			d := p.dur(f[0])
			r.Values[0], r.Values[1] = int64(d/(10*time.Millisecond)), int64(d)
		case k == ops.KindGoroutineLeak && len(f) == 1:
			r.Values[0] = p.num(f[0])
		case (k == ops.KindBlock || k == ops.KindMutex) && len(f) == 2:
			r.Values[0], r.Values[1] = p.num(f[0]), int64(p.dur(f[1]))
		case k == ops.KindHeap && len(f) == 2:
			r.Values[2], r.Values[3] = p.num(f[0]), p.bytes(f[1])
		case k == ops.KindAllocs && len(f) == 2:
			r.Values[0], r.Values[1] = p.num(f[0]), p.bytes(f[1])
		default:
			return fmt.Errorf("%d figures for a row of %s", len(f), k)
		}
		if stack.Watched() {
			for i, v := range r.Values {
				out.Observer[i] += v
			}
			return nil
		}
		out.Rows = append(out.Rows, r)
		return nil
	}
	return out
}

func (p *parser) goroutines(format goroutines.Format) *evidence.Goroutines {
	out := &evidence.Goroutines{Format: format}
	p.add = func(line string) error {
		line, created, _ := strings.Cut(line, " | created by ")
		figures, stack := p.stack(line)
		f := strings.Fields(figures)
		if len(f) < 2 {
			return fmt.Errorf("COUNT STATE | STACK")
		}
		g := evidence.Group{Count: int(p.num(f[0])), Stack: stack}
		state, age, aged := strings.Cut(strings.Join(f[1:], " "), " aged ")
		if aged {
			from, to, _ := strings.Cut(age, " ")
			g.Aged, g.Youngest, g.Oldest = g.Count, p.dur(from), p.dur(to)
		}
		state, g.Forever = strings.CutSuffix(state, " forever")
		state, locked := strings.CutSuffix(state, " locked")
		if locked {
			g.Locked = g.Count
		}
		g.State = goroutines.State(state)
		g.Wait = stack.Wait()
		if created != "" {
			g.CreatedBy = p.frame(created)
		}
		out.Groups = append(out.Groups, g)
		out.Total += g.Count
		return nil
	}
	return out
}

func (p *parser) heapType(line string) error {
	parts := strings.Split(line, " | ")
	f := strings.SplitN(parts[0], " ", 5)
	if len(f) < 5 {
		return fmt.Errorf("OBJECTS BYTES SAMPLES FORM TYPE | STACK | CONTAINERS")
	}
	t := evidence.HeapType{Objects: p.num(f[0]), Bytes: p.bytes(f[1]), Samples: p.num(f[2]), Form: f[3], Name: f[4]}
	if len(parts) > 1 {
		t.Sites = []evidence.HeapSite{{Stack: p.frameList(parts[1]), Objects: t.Objects, Bytes: t.Bytes}}
	}
	if len(parts) > 2 {
		t.Containers = strings.Split(parts[2], ", ")
	}
	p.e.Types.Types = append(p.e.Types.Types, t)
	p.e.Types.Bytes += t.Bytes
	p.e.Types.TypedBytes += t.Bytes
	return nil
}

func (p *parser) frames() *evidence.Frames {
	if p.e.Frames == nil {
		p.e.Frames = evidence.NewFrames(p.module)
	}
	return p.e.Frames
}

// stack splits "FIGURES | STACK".
func (p *parser) stack(line string) (figures string, s evidence.Stack) {
	figures, rest, ok := strings.Cut(line, "|")
	if !ok {
		p.fail(fmt.Errorf("a row is FIGURES | STACK"))
	}
	return strings.TrimSpace(figures), p.frameList(rest)
}

func (p *parser) frameList(text string) (s evidence.Stack) {
	for _, f := range strings.Split(text, " < ") {
		if f = strings.TrimSpace(f); f != "" {
			s = append(s, p.frame(f))
		}
	}
	return s
}

func (p *parser) frame(text string) *evidence.Frame {
	fn, place, _ := strings.Cut(strings.TrimSpace(text), " ")
	file, line, _ := strings.Cut(place, ":")
	n := 0
	if line != "" {
		n = int(p.num(line))
	}
	return p.frames().Of(fn, file, n)
}

func (p *parser) fail(err error) {
	if p.bad == nil {
		p.bad = err
	}
}

func (p *parser) num(s string) int64 {
	n, err := strconv.ParseInt(strings.ReplaceAll(s, ",", ""), 10, 64)
	p.noteErr(err)
	return n
}

func (p *parser) float(s string) float64 {
	v, err := strconv.ParseFloat(s, 64)
	p.noteErr(err)
	return v
}

func (p *parser) dur(s string) time.Duration {
	d, err := time.ParseDuration(s)
	p.noteErr(err)
	return d
}

// bytes reads "38MiB", and "-2MiB" for what a difference lost.
func (p *parser) bytes(s string) int64 {
	s, negative := strings.CutPrefix(s, "-")
	n, err := humanize.ParseBytes(s)
	p.noteErr(err)
	if negative {
		return -int64(n)
	}
	return int64(n)
}

func (p *parser) noteErr(err error) {
	if err != nil {
		p.fail(err)
	}
}
