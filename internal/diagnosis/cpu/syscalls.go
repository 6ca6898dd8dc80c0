package cpu

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// syscallBlocked finds goroutines that stand in blocking system calls or in C,
// each on a thread of its own: file locks, slow disks, name resolution by C.
//
// Evidence: how many goroutines were in a system call at one line of the program
// at any time, and how long each stayed (the trace); the goroutine snapshots at
// the window's ends, which must agree where there is no trace.
//
// Network connections do not count: Go waits for those without a thread, and so
// it does for pipes and terminals. Calls that wait by design are left out: those
// of event loops (epoll), for signals, for child processes where no request waits
// for them, and the one goroutine that reads standard input. Ten at once are a warning, twenty 75: from there on
// threads, and the requests on them, queue behind something that is slow. A single
// call that takes long in a background goroutine is nothing.
//
// Not to be confused with downstream-wait, which is about connections.
var syscallBlocked = rule.Rule{
	ID:    "syscall-blocked",
	Name:  rule.Say("goroutines stand in blocking system calls", "goroutine 卡在阻塞式系統呼叫"),
	Judge: judgeSyscalls,
}

const (
	// syscallX75 is how many goroutines at one line are in a system call on average
	// where the score is 75.
	syscallX75 = 20
	// briefCall is what a system call takes that does not really block.
	briefCall = time.Millisecond
)

// call is a line of the program whose system call, or C function, blocks.
type call struct {
	frame  *evidence.Frame
	called *evidence.Frame // by name, such as syscall.Flock
	kind   *callKind
	// at once, by the trace (−1 = none tells) and by the snapshots.
	traced         float64
	before, after  int
	snapshots      int
	count          int64
	total, longest time.Duration
	requests       bool
}

// atOnce is how many goroutines were in it on average.
func (c *call) atOnce() float64 {
	if c.traced >= 0 {
		return c.traced
	}
	if c.snapshots > 1 {
		return float64(min(c.before, c.after)) // both must agree
	}
	return float64(max(c.before, c.after))
}

// mean is how long one call takes; 0 = unknown.
func (c *call) mean() time.Duration {
	if c.count == 0 {
		return 0
	}
	return c.total / time.Duration(c.count)
}

// callKind names what a call waits for.
type callKind struct {
	names  []string
	name   ops.Text
	remedy ops.Text
}

var callKinds = []callKind{
	{[]string{"syscall.Flock", "syscall.FcntlFlock", "golang.org/x/sys/unix.Flock", "golang.org/x/sys/unix.FcntlFlock", "cmd/go/internal/lockedfile", "github.com/gofrs/flock", "go.etcd.io/bbolt.flock"},
		rule.Say("a file lock", "檔案鎖"),
		rule.Say("Lock in the process first (a sync.Mutex or a single writer goroutine in front of the file), so that only one goroutine waits for the file lock, and hold it for less.", "先在行程內上鎖（檔案前面放 sync.Mutex 或單一寫入 goroutine），讓只有一個 goroutine 等檔案鎖，並縮短持有時間。")},
	{[]string{"syscall.Fsync", "syscall.Fdatasync", "os.(*File).Sync", "golang.org/x/sys/unix.Fsync", "golang.org/x/sys/unix.Fdatasync", "golang.org/x/sys/unix.SyncFileRange"},
		rule.Say("the disk to confirm a write (fsync)", "磁碟確認寫入（fsync）"),
		rule.Say("Join writes: one fsync for all that came in within a few milliseconds (group commit).", "合併寫入：幾毫秒內的寫入共用一次 fsync（group commit）。")},
	{[]string{"net.cgo", "net._C", "net.(*Resolver).lookupIPAddr", "net._cgo"},
		rule.Say("name resolution by the C library", "透過 C 函式庫的 DNS 解析"),
		rule.Say("Use Go's own resolver (GODEBUG=netdns=go), and keep connections so that names are looked up less often.", "改用 Go 自己的解析器（GODEBUG=netdns=go），並維持連線以減少查詢。")},
	{[]string{"runtime.cgocall", "runtime._cgo", "_Cfunc_"},
		rule.Say("a C function (cgo)", "透過 cgo 呼叫的 C 函式"),
		rule.Say("Bound how many goroutines call C at once (a semaphore), each call keeps a thread.", "限制同時呼叫 C 的 goroutine 數量（semaphore）：每次呼叫都會佔住一個執行緒。")},
	{[]string{"syscall.Open", "syscall.openat", "os.OpenFile", "os.Open"},
		rule.Say("a file to open", "開啟檔案"),
		rule.Say("Opening a FIFO waits for its other end: open it with O_NONBLOCK (Go then waits without a thread) or O_RDWR; on a network file system bound how many open at once.", "開啟 FIFO 會等待另一端：以 O_NONBLOCK（Go 就不需佔用執行緒等待）或 O_RDWR 開啟；若是網路檔案系統，限制同時開啟的數量。")},
	{[]string{"syscall.read", "syscall.write", "syscall.pread", "syscall.pwrite", "syscall.Read", "syscall.Write", "syscall.readv", "syscall.writev", "golang.org/x/sys/unix.Read", "golang.org/x/sys/unix.Write", "os.(*File)", "syscall.sendfile", "syscall.Getdents", "syscall.ReadDirent", "syscall.Stat", "syscall.fstatat", "syscall.Unlink", "syscall.unlinkat", "syscall.Rename", "syscall.Mkdir"},
		rule.Say("the file system", "檔案系統"),
		rule.Say("Bound how many goroutines use the file system at once, write in larger blocks (bufio), and look at the disk: is it full, slow, or a network mount?", "限制同時使用檔案系統的 goroutine 數量、以較大的區塊寫入（bufio），並檢查磁碟：是否已滿、變慢，或是網路掛載？")},
}

var childCall = callKind{
	names:  []string{"os.(*Process)", "os/exec.(*Cmd)", "syscall.wait4", "syscall.Wait4", "golang.org/x/sys/unix.Wait4"},
	name:   rule.Say("a child process", "子行程"),
	remedy: rule.Say("Bound how many child processes run at once (a semaphore), let a few long-lived ones serve many requests, or do the work in this process by a library.", "限制同時執行的子行程數量（semaphore）、讓少數常駐的子行程服務多個請求，或改用函式庫在本行程內完成。"),
}

var otherCall = callKind{
	name:   rule.Say("a system call", "系統呼叫"),
	remedy: rule.Say("Bound how many goroutines make this call at once, or use a call that does not block.", "限制同時進行這個呼叫的 goroutine 數量，或改用不會阻塞的呼叫。"),
}

// byDesign are calls that wait as they are meant to.
var byDesign = []string{
	"os/signal.", "syscall.EpollWait", "golang.org/x/sys/unix.EpollWait", "golang.org/x/sys/unix.Poll", "golang.org/x/sys/unix.Ppoll", "golang.org/x/sys/unix.Select", "golang.org/x/sys/unix.Pselect", "syscall.Select",
	"syscall.Kevent", "golang.org/x/sys/unix.Kevent", "runtime.notetsleepg",
	"syscall.Pause", "syscall.nanosleep", "runtime.ensureSigM", "github.com/fsnotify/",
}

func judgeSyscalls(e *evidence.Evidence) rule.Result {
	calls, looked := blockedCalls(e)
	if !looked {
		return rule.Needs(e, ops.KindTrace, ops.KindGoroutine)
	}
	if len(calls) == 0 {
		return rule.OK(rule.Say("no goroutine of the program stood in a blocking system call", "沒有程式的 goroutine 卡在阻塞式系統呼叫"))
	}
	var found []ops.Finding
	for _, c := range calls[:min(3, len(calls))] {
		if c.traced >= 0 && c.mean() < briefCall {
			continue
		}
		if f := syscallFinding(e, c); f.Severity() != "" && !slices.ContainsFunc(found, func(g ops.Finding) bool { return g.ID() == f.ID() }) {
			found = append(found, f)
		}
	}
	top := calls[0]
	return rule.Found(rule.Say("%.1[1]f goroutines stood in a system call at %[2]s on average", "平均有 %.1[1]f 個 goroutine 在 %[2]s 的系統呼叫中", top.atOnce(), rule.Line(top.frame)), found...)
}

// blockedCalls are the program's lines that are in system calls, most goroutines
// at once first. looked is false if nothing could show them.
func blockedCalls(e *evidence.Evidence) (out []*call, looked bool) {
	get := func(s evidence.Stack) *call {
		f := written(s)
		if f == nil || f.Origin != evidence.OwnCode && f.Origin != evidence.LibraryCode || s.Has(byDesign...) || s.Has(childCall.names...) && !serves(s) || s.Has("net.(*conn)", "net.(*netFD)", "internal/poll.(*FD).Accept") {
			return nil
		}
		for _, c := range out {
			if c.frame == f {
				return c
			}
		}
		k, called := kindOfCall(s)
		out = append(out, &call{frame: f, called: called, kind: k, traced: -1, requests: serves(s)})
		return out[len(out)-1]
	}
	if t := e.Trace; t != nil && t.Duration > 0 {
		looked = true
		for i := range t.Sites {
			s := &t.Sites[i]
			if s.State != trace.StateSyscall {
				continue
			}
			if c := get(s.Stack); c != nil {
				c.traced = max(0, c.traced) + float64(s.Total)/float64(t.Duration)
				c.count, c.total, c.longest = c.count+s.Count, c.total+s.Total, max(c.longest, s.Max)
			}
		}
	}
	first, last := e.GoroutinesBefore, e.Goroutines
	if first == nil {
		first = e.Dump
	}
	snapshots := 0
	for k, g := range []*evidence.Goroutines{first, last} {
		if g == nil {
			continue
		}
		looked, snapshots = true, snapshots+1
		for i := range g.Groups {
			gr := &g.Groups[i]
			if gr.State != goroutines.Syscall {
				continue
			}
			c := get(gr.Stack)
			switch {
			case c == nil:
			case k == 0:
				c.before += gr.Count
			default:
				c.after += gr.Count
			}
		}
	}
	for _, c := range out {
		c.snapshots = snapshots
	}
	slices.SortStableFunc(out, func(a, b *call) int {
		return cmp.Or(cmp.Compare(b.atOnce(), a.atOnce()), cmp.Compare(a.frame.Function, b.frame.Function), cmp.Compare(a.frame.Line, b.frame.Line))
	})
	return out, looked
}

// written is the innermost line that people wrote: cgo writes a file of its own,
// whose functions are the program's too.
func written(s evidence.Stack) *evidence.Frame {
	if at := s.Outermost(func(f *evidence.Frame) bool { return f.Origin == evidence.OwnCode && generated(f) }); at >= 0 {
		return s.UserAbove(at)
	}
	return s.User()
}

func generated(f *evidence.Frame) bool { return strings.Contains(f.Function, "._Cfunc_") }

func kindOfCall(s evidence.Stack) (*callKind, *evidence.Frame) {
	if at := s.Index(evidence.Named(childCall.names...)); at >= 0 {
		return &childCall, s[at]
	}
	for i := range callKinds {
		if at := s.Outermost(evidence.Named(callKinds[i].names...)); at >= 0 {
			return &callKinds[i], s[at]
		}
	}
	if len(s) > 0 {
		return &otherCall, s[0]
	}
	return &otherCall, nil
}

func syscallFinding(e *evidence.Evidence, c *call) ops.Finding {
	n := c.atOnce()
	f := ops.Finding{
		Rule: "syscall-blocked", Score: ops.Score(n, syscallX75), Confidence: ops.Medium,
		Title: rule.Say("%.0[1]f goroutines wait for %[2]s in `%[3]s` (%[4]s)", "%.0[1]f 個 goroutine 在 `%[3]s` 等待%[2]s（%[4]s）", n, c.kind.name, rule.Short(c.frame), rule.Line(c.frame)),
		Summary: rule.Say("%.1[1]f goroutines at a time stand in `%[2]s`%[3]s, each on a thread of its own.%[4]s", "平均同時有 %.1[1]f 個 goroutine 停在 `%[2]s`%[3]s，各佔一個執行緒。%[4]s",
			n, rule.Short(c.called), howLong(c), areRequests(c)),
		Explanation: rule.Say("Go cannot take a goroutine off a system call or a C function: it keeps its thread until the call returns, and the runtime starts further threads for the others. What they wait for is outside of Go, so that neither the CPU profile nor the block profile shows it.",
			"Go 無法把 goroutine 從系統呼叫或 C 函式中換下來：它會一直佔住執行緒直到呼叫返回，runtime 只好為其他 goroutine 開新的執行緒。它們等的東西在 Go 之外，因此 CPU profile 與 block profile 都看不到。"),
		Remedies: []ops.Text{c.kind.remedy,
			rule.Say("Give the wait an end: a deadline around the work, and an answer to the caller when it has passed.", "讓等待有終點：為這項工作設定期限，逾時就回覆呼叫者。")},
		Where: []ops.Place{rule.At(ops.RoleIO, c.frame)},
	}
	if c.traced >= 0 {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindTrace, Metric: "goroutines_in_syscall", Value: c.traced, Unit: "goroutines",
			Text: rule.Say("%[1]s calls in the trace took %[2]s in all, the longest %[3]s", "trace 中 %[1]s 次呼叫共花 %[2]s，最長 %[3]s", rule.Count(c.count), rule.Dur(c.total), rule.Dur(c.longest))})
	}
	if c.before > 0 || c.after > 0 {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindGoroutine, Metric: "goroutines_in_syscall", Value: float64(max(c.before, c.after)), Unit: "goroutines",
			Text: rule.Say("%[1]d goroutines were in it at the beginning and %[2]d at the end of the window", "視窗開始時有 %[1]d 個、結束時有 %[2]d 個 goroutine 在其中", c.before, c.after)})
	}
	if c.traced >= 0 && min(c.before, c.after) > 0 {
		f.Confidence = ops.High
	}
	if v, ok := e.Runtime.Max("ops/threads:threads"); ok {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindRuntime, Metric: "threads", Value: v, Unit: "threads", Text: rule.Say("the process has %.0f threads", "行程有 %.0f 個執行緒", v)})
	}
	return f
}

func howLong(c *call) ops.Text {
	if c.count == 0 {
		return ops.Text{}
	}
	return rule.Say(", %[1]s each time (up to %[2]s)", "，每次 %[1]s（最長 %[2]s）", rule.Dur(c.mean()), rule.Dur(c.longest))
}

func areRequests(c *call) ops.Text {
	if !c.requests {
		return ops.Text{}
	}
	return rule.Say(" They are requests that somebody waits for.", "這些是有人在等待的請求。")
}
