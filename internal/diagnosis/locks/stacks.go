package locks

import (
	"regexp"
	"strings"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/trace"
)

// plumbing reports whether a frame is between the caller of Lock and the wait.
func plumbing(f *evidence.Frame) bool {
	switch f.Package {
	case "runtime":
		return f.Function != "runtime.main" && f.Function != "runtime.goexit"
	case "sync", "internal/sync":
		return true
	}
	return strings.HasPrefix(f.Package, "internal/runtime/")
}

// locking is what a stack does with a lock, and the index of the frame that wants
// it: the first that is not a mere helper named lock or the like. once and file
// are locks within sync.Once and within an os.File.
type locking struct {
	kind       trace.LockKind
	at         int
	once, file bool
}

// lockWait reads the stack of a goroutine that waits. ok is false if it is not a
// lock that it waits for: nobody holds a sync.WaitGroup or a sync.Cond.
func lockWait(s evidence.Stack) (l locking, ok bool) {
	i := 0
	for ; i < len(s) && (plumbing(s[i]) || s[i].Package == "internal/poll"); i++ {
		switch s[i].Function {
		case "sync.(*Mutex).Lock", "internal/sync.(*Mutex).Lock", "internal/sync.(*Mutex).lockSlow", "sync.(*Mutex).lockSlow":
			l.kind = trace.LockMutex
		case "sync.(*RWMutex).Lock":
			l.kind = trace.LockWrite
		case "sync.(*RWMutex).RLock":
			l.kind = trace.LockRead
		case "sync.(*Once).doSlow", "sync.(*Once).Do":
			l.once = true
		case "internal/poll.(*fdMutex).rwlock":
			l.kind, l.file = trace.LockMutex, true
		case "sync.(*WaitGroup).Wait", "sync.runtime_notifyListWait", "runtime.selectgo":
			return locking{}, false
		}
	}
	if l.file && !s.Has("os.(*File).Write", "os.(*File).write") {
		return locking{}, false // a connection: its other end is slow
	}
	l.at = caller(s, i)
	return l, l.kind != trace.LockNone && l.at < len(s)
}

// unlocker returns the index of the frame that gives a lock back; len(s) = none.
func unlocker(s evidence.Stack) int {
	i, seen := 0, false
	for ; i < len(s) && plumbing(s[i]); i++ {
		switch s[i].Function {
		case "sync.(*Mutex).Unlock", "sync.(*RWMutex).Unlock", "sync.(*RWMutex).RUnlock", "internal/sync.(*Mutex).Unlock":
			seen = true
		}
	}
	if !seen && i > 0 {
		return len(s) // the runtime's own locks
	}
	return caller(s, i)
}

var helperName = regexp.MustCompile(`(?i)^((must|do|try|r|w|read|write)?(un)?lock(s|all|ed)?|(acquire|release)(lock|mutex)?|lock[A-Z]\w*|unlock[A-Z]\w*)$`)

// caller skips helpers such as (*Room).lock, and a deferred closure, from frame i on.
func caller(s evidence.Stack, i int) int {
	for i+1 < len(s) {
		f, next := s[i], s[i+1]
		if next.Origin != evidence.OwnCode && f.Origin == evidence.OwnCode {
			break
		}
		if !helperName.MatchString(name(f)) && (closureOf(f) == "" || closureOf(f) != outer(next)) {
			break
		}
		i++
	}
	return i
}

// outer is the function that a frame's function is declared in: itself, unless it
// is a closure.
func outer(f *evidence.Frame) string { return f.Outer() }

// closureOf is the function that declares the closure f; "" = f is none.
func closureOf(f *evidence.Frame) string {
	if o := outer(f); o != f.Plain() {
		return o
	}
	return ""
}

// name is the function's own name, without package and receiver.
func name(f *evidence.Frame) string {
	o := outer(f)
	return o[strings.LastIndexByte(o, '.')+1:]
}

// receiver is the type whose method it is, with its package: "main.Room"; "" = it
// is no method.
func receiver(f *evidence.Frame) string {
	o := outer(f)
	rest, ok := strings.CutPrefix(o, f.Package+".")
	if !ok {
		return ""
	}
	typ, _, ok := strings.Cut(rest, ").")
	if t, pointer := strings.CutPrefix(typ, "(*"); ok && pointer {
		return f.Package + "." + t
	}
	if typ, _, ok = strings.Cut(rest, "."); ok {
		return f.Package + "." + typ
	}
	return ""
}

// root is the function that the goroutine of a stack began with, as far as it is
// the program's own; nil = it is a library's, such as a server's handler.
func root(s evidence.Stack) *evidence.Frame {
	for i := len(s) - 1; i >= 0; i-- {
		if f := s[i]; f.Origin != evidence.RuntimeCode && !strings.HasPrefix(f.Function, "sync.(*WaitGroup).Go") && f.Package != "golang.org/x/sync/errgroup" {
			if f.Origin == evidence.OwnCode {
				return f
			}
			return nil
		}
	}
	return nil
}

// sameRoot reports whether two goroutines began with the same function.
func sameRoot(a, b evidence.Stack) bool {
	x, y := root(a), root(b)
	return x != nil && y != nil && x.Plain() == y.Plain()
}

// activation returns the index of the innermost frame of s whose function is that
// of f; -1 = none.
func activation(s evidence.Stack, f *evidence.Frame) int {
	return s.Index(func(g *evidence.Frame) bool { return g.Plain() == f.Plain() })
}

// parts returns the index in b of the frame in which two stacks part, compared
// from their roots; -1 = they share none.
func parts(a, b evidence.Stack) int {
	i, j := len(a)-1, len(b)-1
	for i >= 0 && j >= 0 && a[i] == b[j] {
		i, j = i-1, j-1
	}
	if i >= 0 && j >= 0 && a[i].Plain() == b[j].Plain() {
		return j
	}
	if j+1 < len(b) {
		return j + 1
	}
	return -1
}

// toChange is the frame that an engineer would change, of a wait that happened
// inside frame i of s, which holds the lock: that frame's line, which is the call
// within the critical section; or, if the frame is a helper that runs what it is
// given under a lock (such as sync.Once), the line in what it was given.
func toChange(s evidence.Stack, i int) *evidence.Frame {
	inner := -1
	for k := i - 1; k >= 0; k-- {
		if s[k].Origin == evidence.OwnCode {
			inner = k
			break
		}
	}
	if s[i].Origin == evidence.OwnCode {
		if f := s.CalledBack(i); f != nil {
			return f
		}
		return s[i]
	}
	if inner >= 0 {
		return s[inner]
	}
	return s.UserAbove(i)
}
