package locks

import (
	"path"
	"strings"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// doing is what a goroutine does, as far as it matters to who waits for its lock.
type doing string

const (
	idle      doing = "" // or not known
	running   doing = "running"
	network   doing = "network"
	file      doing = "file"
	syscall   doing = "syscall"
	sleep     doing = "sleep"
	process   doing = "process"
	pool      doing = "pool"
	send      doing = "send"
	receive   doing = "receive"
	workers   doing = "workers" // a sync.WaitGroup
	condition doing = "cond"    // which gives the lock back
	otherLock doing = "lock"    // waits for a lock
)

// waits reports whether it is a wait that a lock should not be held across.
func (d doing) waits() bool {
	switch d {
	case network, file, syscall, sleep, process, pool, send, receive, workers:
		return true
	}
	return false
}

// outside reports whether it waits for something outside the process, or for time.
func (d doing) outside() bool { return d.waits() && d != send && d != receive && d != workers }

// role of the place where it is done.
func (d doing) role() ops.Role {
	switch d {
	case send:
		return ops.RoleSend
	case receive:
		return ops.RoleReceive
	case workers:
		return ops.RoleWait
	}
	return ops.RoleIO
}

// byWait is what a wait known by its library is.
func byWait(w goroutines.Wait) doing {
	switch w.Class {
	case goroutines.Driver, goroutines.HTTPClient, goroutines.RPCClient, goroutines.DNS:
		return network
	case goroutines.PoolAcquire, goroutines.Limit:
		return pool
	case goroutines.Process:
		return process
	}
	return idle
}

// inHeld is what the holder of a lock did, by the trace.
func inHeld(s evidence.Stack, state trace.State, reason trace.Reason, w goroutines.Wait) doing {
	switch state {
	case trace.StateNetwork:
		if s.Has("os.(*File).") {
			return file // a pipe or a terminal, which are polled too
		}
		return network
	case trace.StateSleep:
		return sleep
	case trace.StateSyscall:
		return inSyscall(s)
	case trace.StateSync:
		if _, ok := lockWait(s); ok {
			return otherLock
		}
		if s.Has("sync.(*WaitGroup).Wait") {
			return workers
		}
		return condition
	case trace.StateChan:
		if d := byWait(w); d != idle {
			return d
		}
		if reason == trace.ReasonChanSend {
			return send
		}
		return receive
	case trace.StateRunning, trace.StateRunnable, trace.StateAssist:
		return running
	}
	return idle
}

// inSyscall is what a system call is for.
func inSyscall(s evidence.Stack) doing {
	switch {
	case s.Has("os/exec.", "os.StartProcess", "os.(*Process).", "syscall.forkExec", "syscall.StartProcess"):
		return process
	case s.Has("net.(*"):
		return network
	case s.Has("os."), s.Has("syscall.write", "syscall.Write", "syscall.Fsync", "syscall.read", "syscall.Read", "syscall.Pread", "syscall.Pwrite"):
		return file
	case s.Has("os/signal."):
		return idle
	}
	return syscall
}

// inGroup is what a group of goroutines did when the snapshot was taken.
func inGroup(g *evidence.Group) doing {
	if _, ok := lockWait(g.Stack); ok {
		return otherLock
	}
	switch g.Wait.Class {
	case goroutines.HTTPServerIdle, goroutines.HTTPServerWatch, goroutines.HTTPClientConn, goroutines.Housekeeping, goroutines.Transport:
		return idle
	}
	switch g.State {
	case goroutines.NetRead, goroutines.NetWrite, goroutines.NetConnect, goroutines.IO:
		return network
	case goroutines.FileIO:
		return file
	case goroutines.Syscall:
		return inSyscall(g.Stack)
	case goroutines.Sleep:
		return sleep
	case goroutines.ChanSend, goroutines.ChanReceive, goroutines.Chan, goroutines.Select:
		if d := byWait(g.Wait); d != idle {
			return d
		}
		if g.State == goroutines.ChanSend {
			return send
		}
		return receive
	case goroutines.WaitGroup:
		return workers
	case goroutines.Cond:
		return condition
	case goroutines.Running, goroutines.Runnable, goroutines.GC:
		return running
	}
	return idle
}

// library is the last word of the path of the library that a wait is in, as people
// call it: "pgx" of github.com/jackc/pgx/v5; "" = none is known.
func library(w goroutines.Wait) string {
	p := w.Library
	for {
		base := path.Base(p)
		if len(base) < 2 || base[0] != 'v' || strings.Trim(base[1:], "0123456789") != "" {
			break
		}
		p = path.Dir(p)
	}
	switch p {
	case "", ".", "net", "os":
		return ""
	}
	if p == "database/sql" || p == "net/http" || p == "os/exec" {
		return p
	}
	return path.Base(p)
}

// what it waits for, to follow "while it ".
func (d doing) words(w goroutines.Wait) ops.Text {
	lib := library(w)
	switch d {
	case network:
		switch {
		case w.Class == goroutines.DNS:
			return rule.Say("resolves a host name", "解析主機名稱")
		case lib == "":
			return rule.Say("waits for the network", "等待網路")
		}
		return rule.Say("waits for an answer over the network (%s)", "等待網路回應（%s）", lib)
	case file:
		return rule.Say("reads or writes a file", "讀寫檔案")
	case sleep:
		return rule.Say("sleeps", "睡眠（Sleep）")
	case process:
		return rule.Say("waits for a child process", "等待子行程")
	case pool:
		if lib == "" {
			return rule.Say("waits for a free connection", "等待可用的連線")
		}
		return rule.Say("waits for a free connection (%s)", "等待可用的連線（%s）", lib)
	case send:
		return rule.Say("waits to send to a channel", "等待送出資料到 channel")
	case receive:
		return rule.Say("waits for a channel", "等待 channel")
	case workers:
		return rule.Say("waits for other goroutines (sync.WaitGroup)", "等待其他 goroutine（sync.WaitGroup）")
	case running:
		return rule.Say("computes", "進行運算")
	case otherLock:
		return rule.Say("waits for another lock", "等待另一把鎖")
	case condition:
		return rule.Say("waits for a condition", "等待條件變數")
	case syscall:
	}
	return rule.Say("is in a system call", "停在系統呼叫中")
}

// byWaitOf is what a stack waits in, if that is a library's known function.
func byWaitOf(s evidence.Stack) doing {
	frames := make([]goroutines.Frame, len(s))
	for i, f := range s {
		frames[i] = goroutines.Frame{Function: f.Function}
	}
	return byWait(goroutines.WaitOf(frames))
}
