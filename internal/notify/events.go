package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/ops"
)

// finding is as much of a finding as a message needs.
type finding struct {
	Rule     string       `json:"rule"`
	Severity ops.Severity `json:"severity"`
	Title    string       `json:"title"`
	Summary  string       `json:"summary"`
	CausedBy *string      `json:"caused_by"`
	Where    []struct {
		Function string `json:"function"`
		File     string `json:"file"`
		Line     int    `json:"line"`
	} `json:"where"`
}

type diagnosed struct {
	Instance struct {
		ID string `json:"id"`
	} `json:"instance"`
	Findings  []finding   `json:"findings"`
	Instances []diagnosed `json:"instances"`
}

// FromFindings returns an event for each cause that was found in each instance of
// a capture, in the order of the findings; effects go with their causes. Corrupt
// if the findings cannot be read.
func FromFindings(c ops.Capture, f ops.Findings) ([]Event, error) {
	var en, zh diagnosed
	if err := json.Unmarshal(f.Bodies[ops.English], &en); err != nil {
		return nil, ops.Errorf(ops.Corrupt, "findings of capture %s: %w", c.ID, err)
	}
	if body, ok := f.Bodies[ops.TraditionalChinese]; ok {
		if err := json.Unmarshal(body, &zh); err != nil {
			return nil, ops.Errorf(ops.Corrupt, "findings of capture %s: %w", c.ID, err)
		}
	}
	addresses := map[string]string{}
	for _, t := range c.Targets {
		addresses[string(t.Instance.ID)] = t.Instance.Address
	}
	theirs := append(zh.Instances, zh)
	var out []Event
	for i, d := range append(en.Instances, en) {
		for k, x := range d.Findings {
			if x.CausedBy != nil {
				continue
			}
			e := Event{
				Kind: Diagnosis, Severity: x.Severity, Project: c.Project, Service: c.Service, Subject: x.Rule,
				Instance: ops.InstanceID(d.Instance.ID), Address: addresses[d.Instance.ID],
				Title: ops.Text{EN: x.Title, ZH: x.Title}, Detail: ops.Text{EN: x.Summary, ZH: x.Summary},
				Path: "/captures/" + string(c.ID),
			}
			if i < len(theirs) && k < len(theirs[i].Findings) && theirs[i].Findings[k].Rule == x.Rule {
				e.Title.ZH, e.Detail.ZH = theirs[i].Findings[k].Title, theirs[i].Findings[k].Summary
			}
			if len(x.Where) > 0 {
				e.Function = x.Where[0].Function
				if w := x.Where[0]; w.File != "" {
					e.Place = path.Base(w.File)
					if w.Line > 0 {
						e.Place += fmt.Sprintf(":%d", w.Line)
					}
				}
			}
			out = append(out, e)
		}
	}
	return out, nil
}

// FromShortage returns an event for a service of which fewer instances are up than
// says expects. None at all is critical.
func FromShortage(k ops.ServiceKey, up, expected int, says string) Event {
	e := Event{
		Kind: Health, Severity: ops.Warning, Project: k.Project, Service: k.Service, Subject: "absence", Path: "/?project=" + string(k.Project) + "&service=" + string(k.Service),
		Title:  ops.Text{EN: fmt.Sprintf("%d of %d instances are up", up, expected), ZH: fmt.Sprintf("%d 個實例中僅 %d 個運作中", expected, up)},
		Detail: ops.Text{EN: "Expected by " + says + ".", ZH: "依據 " + says + "。"},
	}
	if up == 0 {
		e.Severity = ops.Critical
	}
	return e
}

// Fleet is what Watch needs to see.
type Fleet interface {
	Instance(ops.InstanceID) (ops.Instance, error)
	Subscribe() *changes.Subscription[ops.InstanceID]
}

// Watch tells of instances that do badly and of processes that died, until ctx
// ends. An instance is told of when a check becomes critical, and once more only
// after it was well in between; what was so before Watch began is news too.
func (n *Notifier) Watch(ctx context.Context, f Fleet) error {
	sub := f.Subscribe()
	defer sub.Close()
	seen := map[ops.InstanceID]watched{}
	for {
		ids, err := sub.Next(ctx)
		if err != nil {
			return nil //nolint:nilerr // the end of ctx is how Watch ends
		}
		for _, id := range ids {
			inst, err := f.Instance(id)
			if err != nil {
				delete(seen, id) // forgotten by the fleet
				continue
			}
			before, known := seen[id]
			now := watched{state: inst.State, failing: failing(inst.Health)}
			seen[id] = now
			for _, e := range news(before, known, inst) {
				n.Tell(e)
			}
		}
	}
}

// watched is how an instance was when it was looked at last.
type watched struct {
	state   ops.InstanceState
	failing map[ops.HealthCheck]ops.Severity
}

func failing(h ops.Health) map[ops.HealthCheck]ops.Severity {
	var out map[ops.HealthCheck]ops.Severity
	for _, i := range h.Issues {
		if out == nil {
			out = map[ops.HealthCheck]ops.Severity{}
		}
		out[i.Check] = severityOf(i.Level)
	}
	return out
}

func severityOf(l ops.HealthLevel) ops.Severity {
	if l == ops.HealthCritical {
		return ops.Critical
	}
	return ops.Warning
}

// news is what is worth a message about an instance that was as before.
func news(before watched, known bool, i ops.Instance) []Event {
	base := Event{
		Project: i.Project, Service: i.Service, Instance: i.ID, Address: i.Address, At: time.Now(), Path: "/instances/" + string(i.ID),
	}
	if i.State == ops.InstanceGone {
		// A tombstone of an earlier day is no news, nor one that said goodbye.
		if !known || before.state == ops.InstanceGone || i.StateReason != ops.VerdictLikelyOOM && i.StateReason != ops.VerdictVanished {
			return nil
		}
		return []Event{ended(base, i)}
	}
	var out []Event
	for _, issue := range i.Health.Issues {
		s := severityOf(issue.Level)
		if known && rank(before.failing[issue.Check]) >= rank(s) || issue.Check == ops.CheckHeartbeat {
			continue // told before; of silence the end is told
		}
		e := base
		e.Kind, e.Severity, e.Subject = Health, s, string(issue.Check)
		e.Title = healthTitle(issue)
		out = append(out, e)
	}
	return out
}

func ended(e Event, i ops.Instance) Event {
	e.Kind, e.Subject, e.Severity = Ended, i.StateReason, ops.Warning
	up := i.LastSeen.Sub(cmp.Or(i.Process.StartTime, i.Joined)).Round(time.Second)
	if i.StateReason == ops.VerdictLikelyOOM {
		e.Severity = ops.Critical
		e.Title = ops.Text{EN: "a process was likely killed for its memory", ZH: "行程很可能因記憶體不足被終止"}
	} else {
		e.Title = ops.Text{EN: "a process ended without a word", ZH: "行程無預警結束"}
	}
	e.Detail = ops.Text{
		EN: fmt.Sprintf("It ran for %v; its last memory was %s.", up, memory(i, "of")),
		ZH: fmt.Sprintf("執行了 %v；最後的記憶體用量為 %s。", up, memory(i, "/")),
	}
	return e
}

func memory(i ops.Instance, of string) string {
	mib := func(b int64) string { return fmt.Sprintf("%d MiB", b>>20) }
	if i.Process.MemoryLimitBytes > 0 {
		return mib(i.Heartbeat.RSSBytes) + " " + of + " " + mib(i.Process.MemoryLimitBytes)
	}
	return mib(i.Heartbeat.RSSBytes)
}

// healthTitle is a check in words.
func healthTitle(i ops.HealthIssue) ops.Text {
	pct := func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }
	switch i.Check {
	case ops.CheckCPU:
		return ops.Text{EN: "CPU at " + pct(i.Value), ZH: "CPU 用量 " + pct(i.Value)}
	case ops.CheckThrottled:
		return ops.Text{EN: "throttled in " + pct(i.Value) + " of its periods", ZH: "CPU 節流佔 " + pct(i.Value) + " 的週期"}
	case ops.CheckMemory:
		return ops.Text{EN: "memory at " + pct(i.Value) + " of its limit", ZH: "記憶體用量達上限的 " + pct(i.Value)}
	case ops.CheckGoroutines:
		return ops.Text{EN: fmt.Sprintf("%.1f times as many goroutines as usual", i.Value), ZH: fmt.Sprintf("goroutine 數量是平常的 %.1f 倍", i.Value)}
	case ops.CheckSchedLatency:
		return ops.Text{EN: fmt.Sprintf("goroutines wait %.0f ms for a processor (p99)", 1e3*i.Value), ZH: fmt.Sprintf("goroutine 等待處理器 %.0f ms（p99）", 1e3*i.Value)}
	case ops.CheckPoolWaiters:
		return ops.Text{EN: fmt.Sprintf("%.0f wait for a connection of a pool", i.Value), ZH: fmt.Sprintf("%.0f 個請求在等連線池的連線", i.Value)}
	case ops.CheckHeapSlope:
		return ops.Text{EN: fmt.Sprintf("the live heap grows by %.3g GiB an hour", i.Value), ZH: fmt.Sprintf("存活堆積 每小時成長 %.3g GiB", i.Value)}
	case ops.CheckGoroutinesSlope:
		return ops.Text{EN: fmt.Sprintf("%.3g goroutines more each second", i.Value), ZH: fmt.Sprintf("goroutine 每秒增加 %.3g 個", i.Value)}
	case ops.CheckGoroutinesStand:
		return ops.Text{EN: fmt.Sprintf("%.1f times the goroutines for no more CPU: they wait", i.Value), ZH: fmt.Sprintf("goroutine 變為 %.1f 倍，CPU 卻沒有增加：都在等待", i.Value)}
	case ops.CheckFlapping:
		return ops.Text{EN: fmt.Sprintf("flapping: lost %.0f times, and back each time", i.Value), ZH: fmt.Sprintf("連線反覆中斷：斷線 %.0f 次，每次又恢復", i.Value)}
	case ops.CheckRestarts:
		return ops.Text{EN: fmt.Sprintf("%.0f restarts within an hour", i.Value), ZH: fmt.Sprintf("一小時內重啟 %.0f 次", i.Value)}
	}
	return ops.Text{EN: fmt.Sprintf("%s at %.3g", i.Check, i.Value), ZH: fmt.Sprintf("%s 為 %.3g", i.Check, i.Value)}
}
