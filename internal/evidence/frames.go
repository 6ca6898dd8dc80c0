package evidence

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/profile"
)

// Origin says whose code a frame is.
type Origin uint8

// The origins.
const (
	// OwnCode is the program's: what its engineers can change.
	OwnCode Origin = iota
	// LibraryCode is that of a module which it depends on.
	LibraryCode
	StdCode
	RuntimeCode
	// ObserverCode is the profilers, the tracer and the agent.
	ObserverCode
)

// Frame is a line of a function. There is one Frame for each that is different,
// in all artifacts of one Evidence: frames may be compared as pointers.
type Frame struct {
	Function string // as profiles have it: "main.(*Room).PlaceBet"
	File     string
	Line     int // 0 = unknown
	Package  string
	Origin   Origin
	told     string // of File, where its name alone would not do
	// What Plain and Outer say, computed once: a large profile asks for millions.
	plain, outer string
}

// Told is the file's name, as findings have it: with its directory where the
// program has another file of that name.
func (f *Frame) Told() string {
	if f.told != "" {
		return f.told
	}
	return path.Base(strings.ReplaceAll(f.File, `\`, "/"))
}

// Frames makes frames. Not safe for concurrent use.
type Frames struct {
	module string // path of the main module; "" = unknown
	byKey  map[frameKey]*Frame
	origin map[[2]string]Origin // by package and directory
}

type frameKey struct {
	function, file string
	line           int
}

// NewFrames makes a vocabulary for a program whose main module has that path;
// "" = not known, in which case code in no other module is the program's own.
func NewFrames(module string) *Frames {
	return &Frames{module: module, byKey: map[frameKey]*Frame{}, origin: map[[2]string]Origin{}}
}

// Of returns the frame. Profiles write the type arguments of a generic function
// as "[...]", traces in full: they are one function.
func (f *Frames) Of(function, file string, line int) *Frame {
	function = withoutArguments(function)
	k := frameKey{function, file, line}
	if fr := f.byKey[k]; fr != nil {
		return fr
	}
	pkg := profile.Package(function)
	fr := &Frame{Function: function, File: file, Line: line, Package: pkg, Origin: f.originOf(function, pkg, file)}
	fr.plain = fr.Plain()
	fr.outer = fr.Outer()
	f.byKey[k] = fr
	return fr
}

// TellApart gives the program's files that share a name with another of its files
// the directory in front. It is called when all frames are known.
func (f *Frames) TellApart() {
	dirs := map[string]map[string]bool{} // of a name
	for _, fr := range f.byKey {
		if fr.Origin != OwnCode || fr.File == "" {
			continue
		}
		dir, base := path.Split(strings.ReplaceAll(fr.File, `\`, "/"))
		if dirs[base] == nil {
			dirs[base] = map[string]bool{}
		}
		dirs[base][dir] = true
	}
	for _, fr := range f.byKey {
		if fr.Origin != OwnCode {
			continue
		}
		if dir, base := path.Split(strings.ReplaceAll(fr.File, `\`, "/")); len(dirs[base]) > 1 && dir != "" {
			fr.told = path.Base(dir) + "/" + base
		}
	}
}

// withoutArguments writes a function's type arguments as profiles do.
func withoutArguments(function string) string {
	from, to := strings.IndexByte(function, '['), strings.LastIndexByte(function, ']')
	if from < 0 || to < from || function[from+1:to] == "..." {
		return function
	}
	return function[:from+1] + "..." + function[to:]
}

const agentPackage = "github.com/opscenter/opscenter/agent"

func (f *Frames) originOf(function, pkg, file string) Origin {
	if observing(function, pkg) {
		return ObserverCode
	}
	dir := path.Dir(strings.ReplaceAll(file, `\`, "/"))
	key := [2]string{pkg, dir}
	o, ok := f.origin[key]
	if !ok {
		o = f.judge(pkg, dir)
		if pkg == function {
			o = RuntimeCode // "gcWriteBarrier", "memmove": assembly and C have no package
		}
		f.origin[key] = o
	}
	return o
}

// observing names the functions of the runtime that work for profiles and
// traces, as measured on captures of Go 1.22 to 1.26.
func observing(function, pkg string) bool {
	switch pkg {
	case "runtime/pprof", "runtime/trace", "net/http/pprof", agentPackage:
		return true
	case "runtime":
		for _, p := range observers {
			if strings.HasPrefix(function, p) {
				return true
			}
		}
	}
	return strings.HasPrefix(pkg, agentPackage+"/")
}

var observers = []string{
	"runtime.traceLocker.", "runtime.traceEventWriter.", "runtime.traceWriter.", "runtime.(*traceStackTable)", "runtime.(*traceMap)",
	"runtime.(*traceStringTable)", "runtime.(*traceBuf)", "runtime.traceAcquire", "runtime.traceRelease", "runtime.traceStack", "runtime.traceAdvance",
	"runtime.traceReader", "runtime.traceBufFlush", "runtime.readTrace", "runtime.ReadTrace", "runtime.(*traceSchedResourceState)",
	"runtime.blockevent", "runtime.saveblockevent", "runtime.mutexevent", "runtime.blocksampled", "runtime.fpTracebackPCs",
	"runtime.(*profBuf)", "runtime.sigprof", "runtime.(*cpuProfile)", "runtime/pprof.", "runtime.goroutineProfile", "runtime.doRecordGoroutineProfile",
	"runtime.tryRecordGoroutineProfile", "runtime.pprof_",
}

func (f *Frames) judge(pkg, dir string) Origin {
	switch {
	case pkg == "runtime" || strings.HasPrefix(pkg, "runtime/") || strings.HasPrefix(pkg, "internal/runtime/"):
		return RuntimeCode
	case pkg == "":
		return RuntimeCode // assembly and C without a package
	case pkg == "main":
		return OwnCode
	case f.module != "" && (pkg == f.module || strings.HasPrefix(pkg, f.module+"/")):
		return OwnCode
	case isStd(pkg, dir):
		return StdCode
	case f.module != "", strings.Contains(dir, "@v"), strings.Contains(dir, "/vendor/"), strings.HasPrefix(pkg, "golang.org/x/"), strings.HasPrefix(pkg, "google.golang.org/"):
		return LibraryCode
	}
	return OwnCode
}

// isStd goes by the first element of the import path, which has no dot only in
// the standard library and in modules that cannot be downloaded; where the
// source's directory is absolute it must be the standard library's, too. It need
// not be the package's own: time.Sleep is written in package runtime, and
// functions that were inlined bear the name of where they went.
func isStd(pkg, dir string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	if !slices.Contains(stdRoots, first) {
		return false
	}
	if !path.IsAbs(dir) {
		return true
	}
	at := strings.LastIndex(dir, "/src/")
	if at < 0 {
		return false
	}
	first, _, _ = strings.Cut(dir[at+len("/src/"):], "/")
	return slices.Contains(stdRoots, first)
}

var stdRoots = []string{
	"archive", "bufio", "bytes", "cmp", "compress", "container", "context", "crypto", "database", "debug", "embed", "encoding", "errors", "expvar",
	"flag", "fmt", "go", "hash", "html", "image", "index", "internal", "io", "iter", "log", "maps", "math", "mime", "net", "os", "path", "plugin",
	"reflect", "regexp", "runtime", "slices", "sort", "strconv", "strings", "structs", "sync", "syscall", "testing", "text", "time", "unicode",
	"unique", "unsafe", "vendor", "weak",
}

// Stack is frames from the leaf to the root.
type Stack []*Frame

// User returns the innermost frame of the program's own code: the line that its
// engineers would change. Without one it is the innermost of a library, of the
// standard library, or the leaf; nil of an empty stack.
func (s Stack) User() *Frame { return s.UserAbove(-1) }

// UserAbove is User for what lies above (towards the root of) frame i.
func (s Stack) UserAbove(i int) *Frame {
	rest := s[min(i+1, len(s)):]
	for _, o := range []Origin{OwnCode, LibraryCode, StdCode} {
		for _, f := range rest {
			if f.Origin == o {
				return f
			}
		}
	}
	if len(rest) > 0 {
		return rest[0]
	}
	return nil
}

// Index returns the innermost frame that match takes; -1 = none.
func (s Stack) Index(match func(*Frame) bool) int { return slices.IndexFunc(s, match) }

// Outermost returns the outermost frame that match takes; -1 = none.
func (s Stack) Outermost(match func(*Frame) bool) int {
	for i := len(s) - 1; i >= 0; i-- {
		if match(s[i]) {
			return i
		}
	}
	return -1
}

// Has reports whether a frame's function begins with one of the names.
func (s Stack) Has(prefixes ...string) bool { return s.Index(Named(prefixes...)) >= 0 }

// Named matches frames whose function, without type arguments, begins with one
// of the names.
func Named(prefixes ...string) func(*Frame) bool {
	return func(f *Frame) bool {
		name := f.Plain()
		for _, p := range prefixes {
			if strings.HasPrefix(name, p) {
				return true
			}
		}
		return false
	}
}

// Plain is the function's name without type arguments: "main.(*Pool).Get" of
// "main.(*Pool[...]).Get".
func (f *Frame) Plain() string {
	if f.plain != "" {
		return f.plain
	}
	name := f.Function
	from := strings.IndexByte(name, '[')
	if from < 0 {
		return name
	}
	to := strings.LastIndexByte(name, ']')
	if to < from {
		return name
	}
	return name[:from] + name[to+1:]
}

// Watched reports whether the goroutine, or what was sampled, works for the
// observer: its leaf-most code other than the runtime's is.
func (s Stack) Watched() bool {
	for _, f := range s {
		if f.Origin == ObserverCode {
			return true
		}
		if f.Origin == OwnCode {
			return false
		}
	}
	return false
}

// Shared returns the innermost frame that two stacks have in common, function
// and line apart from each other's callees: the activation in which both
// happened, compared from the root. line is each one's line in it. ok is false
// if they share no frame of the program's own code.
func Shared(a, b Stack) (inA, inB *Frame, ok bool) {
	i, j := len(a)-1, len(b)-1
	for i >= 0 && j >= 0 && a[i].Function == b[j].Function {
		inA, inB = a[i], b[j]
		if a[i] != b[j] { // same function, other line: they part here
			break
		}
		i, j = i-1, j-1
	}
	return inA, inB, inA != nil && inA.Origin == OwnCode
}

// closureNames are what the compiler appends to a function's name for code that
// is written within it.
var closureNames = regexp.MustCompile(`(\.func\d+|\.gowrap\d+|\.deferwrap\d+|-range\d+|\.\d+|-fm)+$`)

// Outer is the function that the frame's function is declared in: itself, unless
// it is a closure. Without type arguments.
func (f *Frame) Outer() string {
	if f.outer != "" {
		return f.outer
	}
	return closureNames.ReplaceAllString(f.Plain(), "")
}

// CalledBack is for a frame that runs what one of its callers handed to it, such
// as a helper for transactions or for work under a lock: it returns the line in
// what was handed over, which is written in a function further towards the root.
// nil if the frame's function calls what it calls by itself.
func (s Stack) CalledBack(i int) *Frame {
	for k := i - 1; k >= 0; k-- {
		if s[k].Origin != OwnCode {
			continue
		}
		outer := s[k].Outer()
		// "main.a.b.func1" is in b where that was inlined into a.
		within := func(f *Frame) bool { return f.Outer() == outer || strings.HasPrefix(outer, f.Outer()+".") }
		if outer != s[k].Plain() && !within(s[i]) && s[i+1:].Index(within) >= 0 {
			return s[k]
		}
		return nil
	}
	return nil
}
