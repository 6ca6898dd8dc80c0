package waits

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
)

// lasting writes how long a wait lasts.
func (p *place) lasting() ops.Text {
	d := rule.Dur(p.delay)
	switch {
	case !p.known:
		return rule.Say("an unknown time", "多久不明")
	case p.upTo:
		return rule.Say("up to %s", "最長 %s", d)
	case p.atLeast:
		return rule.Say("at least %s", "至少 %s", d)
	}
	return rule.Say("%s on average", "平均 %s", d)
}

// each writes the same in a title.
func (p *place) each() ops.Text {
	d := rule.Dur(p.delay)
	switch {
	case p.upTo:
		return rule.Say("up to %s", "≤ %s", d)
	case p.atLeast:
		return rule.Say("at least %s", "≥ %s", d)
	}
	return rule.Say("%s", "%s", d)
}

// doing says what a waiting goroutine waits for, after "which".
func doing(w *wait) ops.Text {
	switch w.kind {
	case ask:
		return rule.Say("waits for an answer of %s", "在等待 %s 的回應", w.client)
	case dial:
		return rule.Say("waits for a connection to be made (%s)", "在等待建立連線（%s）", w.client)
	case resolve:
		return rule.Say("waits for DNS", "在等待 DNS 解析")
	case acquire:
		return rule.Say("waits for a free connection of %s", "在等待 %s 的空閒連線", w.client)
	case limit:
		return rule.Say("waits for its turn at a limit", "在等待並行上限放行")
	case send:
		return rule.Say("waits to send to a channel", "卡在對 channel 的送出")
	}
	switch w.state {
	case goroutines.NetWrite:
		return rule.Say("waits for a peer to read what it writes", "在等待對方讀走它寫出的資料")
	case goroutines.NetRead:
		return rule.Say("waits for a peer to say something", "在等待對方送來資料")
	case goroutines.Sleep:
		return rule.Say("sleeps", "在睡眠（time.Sleep）")
	case goroutines.Semaphore, goroutines.Mutex, goroutines.RWMutexRead, goroutines.RWMutexWrite:
		return rule.Say("waits for a lock", "在等待鎖")
	case goroutines.Syscall, goroutines.FileIO:
		return rule.Say("is in a system call", "卡在系統呼叫")
	case goroutines.ChanReceive, goroutines.Select:
		return rule.Say("waits at a channel", "在 channel 上等待")
	}
	return rule.Say("waits", "在等待")
}

// list writes places as "a.go:1, b.go:2 and 3 more".
func list(ps []place) string {
	out := ""
	for i, p := range ps {
		if i == 3 {
			return fmt.Sprintf("%s, +%d", out, len(ps)-3)
		}
		if out != "" {
			out += ", "
		}
		out += rule.Line(p.user)
	}
	return out
}

// callers are the program's frames above a line, as places: at most two functions.
func callers(s evidence.Stack, at int) (out []ops.Place) {
	for _, f := range s[at+1:] {
		if own(f) && len(out) < 2 && f.Function != s[at].Function && !slices.ContainsFunc(out, func(p ops.Place) bool { return p.Function == f.Function }) {
			out = append(out, rule.At(ops.RoleCall, f))
		}
	}
	return out
}

// addPlace appends a place that is not among them.
func addPlace(where []ops.Place, p ops.Place) []ops.Place {
	if slices.ContainsFunc(where, func(q ops.Place) bool { return q.Function == p.Function && q.File == p.File && q.Line == p.Line }) {
		return where
	}
	return append(where, p)
}

// sure is how confident the waits themselves make: two independent sources that
// agree and no loss in the trace.
func (v *view) sure(ws []*wait) ops.Confidence {
	s := sum(ws)
	traced, counted := s.count > 0, s.now+s.before > 0
	switch {
	case traced && counted && v.e.Lost(ops.KindTrace) == nil:
		return ops.High
	case traced || counted && (s.blocked > 0 || s.before > 0):
		return ops.Medium
	}
	return ops.Low
}

// proofs are the figures of waits: what the trace, the block profile and the
// snapshots say of them.
func (v *view) proofs(ws []*wait) []ops.Proof { return v.proofsOf(ws, ws) }

// proofsOf is proofs where only some of the waits make up the time that is told; the
// others are those for the rest of something that was there already.
func (v *view) proofsOf(ws, told []*wait) (out []ops.Proof) {
	s, main := sum(ws), sum(told)
	if main.count > 0 {
		text := v.traceText(&main)
		if n := s.count - main.count; n > 0 {
			text = rule.Say("%[1]s; besides, shorter waits for the rest of what had come: %[2]s, together %[3]s", "%[1]s；另有 %[2]s 次較短的等待（等其餘資料），合計 %[3]s", text, rule.Count(n), rule.Dur(s.total-main.total))
		}
		out = append(out, ops.Proof{Artifact: ops.KindTrace, Metric: "wait_seconds", Value: main.total.Seconds(), Unit: "s", Text: text, Moment: moment(told)})
	}
	if s.blocked > 0 {
		share := 0.0
		if t := v.e.Block.Total(v.e.Block.Type("delay")); t > 0 {
			share = float64(s.delay) / float64(t)
		}
		out = append(out, ops.Proof{
			Artifact: ops.KindBlock, Metric: "delay_seconds", Value: s.delay.Seconds(), Unit: "s", Share: min(1, share),
			Text: rule.Say("waits that ended in the whole window: %[1]s, together %[2]s, which is %[4]s each and %[3]s of all blocking", "整個時窗內結束的等待有 %[1]s 次、合計 %[2]s，每次 %[4]s，占所有阻塞時間的 %[3]s",
				rule.Count(s.blocked), rule.Dur(s.delay), rule.Pct(share), rule.Dur(s.delay/time.Duration(s.blocked))),
		})
	}
	if s.now+s.before > 0 && v.now != nil {
		n := max(s.now, s.before)
		all := v.now.Total
		if s.before > s.now && v.before != nil {
			all = v.before.Total
		}
		text := rule.Say("waiting here: %[1]s of %[2]s goroutines", "%[2]s 個 goroutine 中有 %[1]s 個停在這裡", rule.Count(int64(n)), rule.Count(int64(all)))
		if v.before != nil {
			text = rule.Say("goroutines waiting here: %[1]s at the window's start, %[2]s at its end (of %[3]s)", "時窗開始時有 %[1]s 個 goroutine 停在這裡，結束時 %[2]s 個（共 %[3]s 個）",
				rule.Count(int64(s.before)), rule.Count(int64(s.now)), rule.Count(int64(v.now.Total)))
		}
		out = append(out, ops.Proof{
			Artifact: ops.KindGoroutine, Metric: "goroutines", Value: float64(n), Unit: "goroutines", Share: min(1, float64(n)/float64(max(1, all))), Text: text,
		})
	}
	return out
}

// traceText writes what a trace has of waits, so that the figures can be checked
// against each other: how long one takes is what all took over those that ended.
func (v *view) traceText(s *wait) ops.Text {
	mean, least, _ := v.mean(s)
	all, longest, count := rule.Dur(s.total), rule.Dur(s.max), rule.Count(s.count)
	switch ended := s.count - s.open; {
	case ended <= 0:
		return rule.Say("waits in %[1]s of trace: %[2]s, none of which ended; together %[3]s, %[4]s each so far, the longest %[5]s", "%[1]s 的追蹤中有 %[2]s 次等待，沒有一次結束；合計 %[3]s，每次已等 %[4]s，最長 %[5]s",
			rule.Dur(v.traced()), count, all, rule.Dur(mean), longest)
	case mean == s.max && s.total/time.Duration(ended) > s.max:
		return rule.Say("waits in %[1]s of trace: %[2]s, of which %[3]s ended; together %[4]s, the longest %[5]s", "%[1]s 的追蹤中有 %[2]s 次等待，其中 %[3]s 次結束；合計 %[4]s，最長 %[5]s",
			rule.Dur(v.traced()), count, rule.Count(ended), all, longest)
	case s.open > 0:
		return rule.Say("waits in %[1]s of trace: %[2]s ended, %[3]s more not over at its end; together %[4]s, which is %[5]s for each that ended; the longest %[6]s", "%[1]s 的追蹤中有 %[2]s 次等待結束，另有 %[3]s 次到最後仍未結束；合計 %[4]s，除以結束的次數為每次 %[5]s；最長 %[6]s",
			rule.Dur(v.traced()), rule.Count(ended), rule.Count(s.open), all, (&place{delay: mean, atLeast: least}).each(), longest)
	default:
		return rule.Say("waits in %[1]s of trace: %[2]s, together %[3]s, which is %[4]s each; the longest %[5]s", "%[1]s 的追蹤中有 %[2]s 次等待，合計 %[3]s，每次 %[4]s；最長 %[5]s",
			rule.Dur(v.traced()), count, all, (&place{delay: mean, atLeast: least}).each(), longest)
	}
}

// cpuProof says how busy the process is. ok is false if nothing tells.
func (v *view) cpuProof() (ops.Proof, bool) {
	cores, ok := v.e.CPUCores()
	limit := v.e.CPULimit()
	if !ok {
		return ops.Proof{}, false
	}
	kind := ops.KindCPU
	if v.e.CPU == nil {
		kind = ops.KindRuntime
	}
	p := ops.Proof{Artifact: kind, Metric: "cpu_cores", Value: cores, Unit: "cores", Text: rule.Say("%.2f cores are in use", "使用了 %.2f 個 CPU 核心", cores)}
	if limit > 0 {
		p.Share = min(1, cores/limit)
		p.Text = rule.Say("%.2[1]f of %[2]s cores are in use (%[3]s)", "%[2]s 個 CPU 核心中用了 %.2[1]f 個（%[3]s）", cores, fmt.Sprintf("%g", math.Round(limit*100)/100), rule.Pct(cores/limit))
	}
	return p, true
}

// busyCPU is the counter-evidence of a process that has little CPU to spare.
func (v *view) busyCPU() []ops.Proof {
	share := v.saturation()
	if share < saturated {
		return nil
	}
	p, _ := v.cpuProof()
	p.Text = rule.Say("the process itself uses %s of its CPU: part of the waiting may be its own", "行程本身已用掉 %s 的 CPU，部分等待可能是自己造成的", rule.Pct(share))
	return []ops.Proof{p}
}

// lossProof is the counter-evidence of a trace that is not whole.
func (v *view) lossProof() []ops.Proof {
	l := v.e.Lost(ops.KindTrace)
	if l == nil || v.e.Trace == nil {
		return nil
	}
	return []ops.Proof{{Artifact: ops.KindTrace, Metric: "loss", Value: v.traced().Seconds(), Unit: "s",
		Text: rule.Say("the trace is not whole (%s)", "追蹤不完整（%s）", l.Message)}}
}

// unique joins findings that would have one id, which is their rule and place:
// the graver one keeps its words and gets the other's proofs and places.
func unique(in []ops.Finding) (out []ops.Finding) {
	slices.SortStableFunc(in, func(a, b ops.Finding) int { return cmp.Compare(b.Score, a.Score) })
	for _, f := range in {
		i := slices.IndexFunc(out, func(g ops.Finding) bool { return g.ID() == f.ID() })
		switch {
		case i < 0:
			out = append(out, f)
		case f.Severity() != "":
			out[i].Evidence = append(out[i].Evidence, f.Evidence...)
			for _, p := range f.Where {
				out[i].Where = addPlace(out[i].Where, p)
			}
		}
	}
	return out
}
