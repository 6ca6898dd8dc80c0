package locks

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// logContention finds goroutines that queue for a logger: its own lock while it
// writes to a slow place, the lock of the file that all write to, or a lock of the
// program's under which it logs.
//
// Evidence: that of lock-held-across-io, where what waits is a known logging
// library, the program's own type or function that is named a log, or the write
// lock of an os.File; how many log lines are on their way at once.
//
// Not to be confused with logging that costs CPU (cpu-hot-path), nor with a
// logger that is busy and fast: waits of less than a millisecond are none. A
// write-ahead, commit or event log is data, not a log of what the program does.
// Scores: see wait75.
var logContention = rule.Rule{
	ID: LogContention, Scenario: 4,
	Name:  rule.Say("goroutines queue for the log", "goroutine 排隊寫日誌"),
	Judge: judgeLogContention,
}

var loggers = evidence.Named(
	"log.", "log/slog.", "log/syslog.", "go.uber.org/zap", "github.com/rs/zerolog", "github.com/sirupsen/logrus", "gopkg.in/natefinch/lumberjack",
	"github.com/golang/glog.", "k8s.io/klog", "github.com/go-kit/log", "github.com/go-kit/kit/log", "github.com/hashicorp/go-hclog", "github.com/charmbracelet/log",
	"github.com/phuslu/log", "github.com/apex/log", "github.com/inconshreveable/log15", "github.com/lmittmann/tint", "github.com/cihub/seelog", "github.com/beego/beego/v2/core/logs",
)

// ownLogger are the names of functions and types of a program that log.
var ownLogger = regexp.MustCompile(`(^|[a-z_.*(])(Log|log)(s|f|ln|ger|gers|ging|Writer|File|Sink|line|Line|Msg|Message|Event|Info|Error|Warn|Debug)?([A-Z_.)]|$)`)

// dataLog are logs that are data.
var dataLog = regexp.MustCompile(`(?i)write_?ahead|wal|commit_?log|redo|bin_?log|op_?log|raft|replica|login|logic|catalog|dialog|blog|backlog`)

func isLogger(f *evidence.Frame) bool {
	if loggers(f) {
		return true
	}
	if f.Origin != evidence.OwnCode {
		return false
	}
	o := outer(f)
	o = o[strings.LastIndexByte(o, '/')+1:]
	return ownLogger.MatchString(o) && !dataLog.MatchString(o)
}

// isLog reports whether the wait under the lock is for a log.
func (v *verdict) isLog() bool {
	for _, s := range v.sites {
		if s.file || loggers(s.frame) || isLogger(s.frame) {
			return true
		}
	}
	return v.held.at >= 0 && slices.ContainsFunc(v.held.stack[:v.held.at], func(f *evidence.Frame) bool { return isLogger(f) })
}

// ofLogger reports whether the lock is the logger's own, which no caller sees.
func (v *verdict) ofLogger() bool {
	return slices.ContainsFunc(v.sites, func(s *site) bool { return s.file || loggers(s.frame) })
}

func judgeLogContention(e *evidence.Evidence) rule.Result {
	if missing(e) {
		return rule.Needs(e, ops.KindTrace, ops.KindGoroutine)
	}
	m := build(e)
	var out []ops.Finding
	all := m.judge()
	for _, v := range all {
		if v.nature == logging || v.nature == contended && v.ofLogger() {
			out = append(out, m.logFinding(v))
		}
	}
	return m.ending(all, out)
}

// logCall is a line of the program that logs, and how much it waits.
type logCall struct {
	frame  *evidence.Frame
	weight float64
}

// calls are the lines of the program's own code that want the lock, those that
// wait most first.
func (m *model) calls(v *verdict) (out []logCall) {
	add := func(s evidence.Stack, weight float64) {
		x := m.site(s)
		if x == nil || m.of[x] != v.lock || weight <= 0 {
			return
		}
		own, _ := lockWait(s) // the site's stack may be of another depth below its frame
		f := s.UserAbove(own.at)
		if f == nil || f.Origin != evidence.OwnCode {
			return
		}
		for i := range out {
			if out[i].frame == f {
				out[i].weight += weight
				return
			}
		}
		out = append(out, logCall{f, weight})
	}
	if t := m.e.Trace; t != nil {
		for i := range t.Sites {
			add(t.Sites[i].Stack, t.Sites[i].Total.Seconds())
		}
	}
	if p := m.e.Block; p != nil && len(out) == 0 && !p.Whole {
		for _, r := range p.Rows {
			add(r.Stack, float64(r.Values[max(0, p.Type("delay"))]))
		}
	}
	if len(out) == 0 {
		for _, sc := range m.scenes {
			for _, a := range sc.actors {
				add(a.stack, float64(a.count))
			}
		}
	}
	slices.SortStableFunc(out, func(a, b logCall) int { return cmp.Compare(b.weight, a.weight) })
	return out
}

func (m *model) logFinding(v *verdict) ops.Finding {
	f := ops.Finding{Rule: LogContention, Scenario: 4, Score: v.score, Confidence: m.confidence(v)}
	if v.nature == contended {
		f.Confidence = m.contentionConfidence(v)
	}
	var where places
	calls := m.calls(v)
	change := v.held.change
	if v.ofLogger() && len(calls) > 0 {
		change = calls[0].frame
		where.add(ops.RoleCall, change)
	} else if change != nil {
		where.add(ops.RoleIO, change)
	} else {
		change = v.sites0()
		where.add(ops.RoleWait, change)
	}
	for i, c := range calls {
		if i > 0 && i < maxPlaces && v.ofLogger() {
			where.add(ops.RoleCall, c.frame)
		}
	}
	where.around(v, change)
	where.inner(v)
	f.Where = where
	sink := rule.Say("a slow place", "緩慢的目的地")
	if v.held.does != idle {
		sink = rule.Say("something that makes it wait (it %s)", "會讓它等待的地方（它在%s）", v.held.does.words(v.held.wait))
	}
	f.Summary = m.summary(v)
	if v.ofLogger() {
		f.Title = rule.Say("log lines queue behind each other: %s waits for the logger (%s)", "日誌互相排隊：%s 在等 logger（%s）", rule.Code(change), rule.Line(change))
		f.Explanation = rule.Say("A logger writes one line at a time, under a lock of its own. The lines go to %[1]s, so that whoever logs, as at %[2]s, waits for all lines before its own.",
			"Logger 一次只寫一行，並用自己的鎖保護。日誌寫到%[1]s，所以每個寫日誌的地方（例如 %[2]s）都得等前面所有的行寫完。", sink, rule.Line(change))
	} else {
		f.Title = rule.Say("%s holds %s while it writes to the log (%s)", "%s 持有%s時寫日誌（%s）", rule.Code(change), v.called(), rule.Line(change))
		f.Explanation = rule.Say("Between Lock and Unlock it logs, at %[2]s, to %[1]s. Everybody who wants the lock, at %[3]s, waits for the log.",
			"在 Lock 與 Unlock 之間，它在 %[2]s 寫日誌，寫到%[1]s。所有要這把鎖的人（%[3]s）都在等日誌寫完。", sink, rule.Line(change), rule.Line(v.sites0()))
	}
	f.Remedies = logRemedies(v, change)
	f.Evidence = append(v.holdProof(), m.waitProofs(v)...)
	f.CounterEvidence = m.limits(v)
	return f
}

func logRemedies(v *verdict, change *evidence.Frame) (out []ops.Text) {
	if !v.ofLogger() && !isLogger(change) {
		out = append(out, rule.Say("Log after Unlock: keep what the line needs, give the lock back, then write it at %s.", "Unlock 之後再寫日誌：先留下需要的內容並釋放鎖，再寫日誌（%s）。", rule.Line(change)))
	} else if v.ofLogger() {
		out = append(out, rule.Say("Log less at %s: raise the level, or sample what happens for every request.", "減少 %s 的日誌：提高等級，或對每個請求都會發生的訊息取樣。", rule.Line(change)))
	}
	return append(out,
		rule.Say("Write the log in the background: a bounded queue and one goroutine that writes, which drops and counts lines when it is full.", "改成背景寫入：有上限的佇列加一個專門寫入的 goroutine，滿了就丟棄並計數。"),
		rule.Say("Give it a faster place: a local file or stdout that somebody reads, not a network disk, a slow pipe or a remote collector.", "換快一點的目的地：本機檔案或有人及時讀取的 stdout，而不是網路磁碟、緩慢的 pipe 或遠端收集器。"))
}
