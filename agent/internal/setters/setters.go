// Package setters finds the lines of the running program that set what its
// garbage collector works by: debug.SetMemoryLimit and debug.SetGCPercent. A
// limit that a program sets itself does not change with its environment, which is
// where everybody looks first, and no profile shows such a call, for it is long
// over.
//
// It looks for the calls in the machine code of the program's file, which it reads
// as any program would, so that none of its code is brought into memory for it,
// and names them with the tables that the runtime has for its own stacks: it takes
// neither symbols nor debug information. It must know nothing of agents and
// centres, and imports the standard library alone.
package setters

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Line is a line of the program, as profiles name it.
type Line struct {
	Function string `json:"function"`
	File     string `json:"file"`
	Line     int    `json:"line"`
}

// Found are the lines that call, at most eight of each. Not all of them need have
// been reached. A call by way of a variable or an interface is not among them, and
// of a function that was inlined the line may be its caller's.
type Found struct {
	MemoryLimit []Line // debug.SetMemoryLimit
	GCPercent   []Line // debug.SetGCPercent
}

// Bounds of one look.
const (
	mostLines = 8
	maxText   = 1 << 30
	maxTime   = time.Second
	chunk     = 256 << 10
)

// Find looks through the program, which takes some milliseconds for every 10 MB
// of code. An error says why the lines are not known; it will not go away.
func Find() (f Found, err error) {
	defer func() {
		if r := recover(); r != nil {
			f, err = Found{}, fmt.Errorf("looking at the program panicked: %v", r)
		}
	}()
	p, err := openProgram()
	if err != nil {
		return f, err
	}
	defer func() { _ = p.file.Close() }()
	limit, percent := p.reached(debug.SetMemoryLimit), p.reached(debug.SetGCPercent)
	err = p.calls(time.Now().Add(maxTime), func(target, ret uint64) {
		if slices.Contains(limit, target) {
			f.MemoryLimit = add(f.MemoryLimit, p.bias+ret)
		}
		if slices.Contains(percent, target) {
			f.GCPercent = add(f.GCPercent, p.bias+ret)
		}
	})
	if err != nil {
		return Found{}, err // some is not all: the line that counts may be missing
	}
	return f, nil
}

// add adds the line that the call before an address belongs to.
func add(to []Line, ret uint64) []Line {
	at, ok := callerAt(uintptr(ret))
	if !ok || len(to) >= mostLines || slices.Contains(to, at) {
		return to
	}
	return append(to, at)
}

// inlinedCall is how far before the call the line is looked for that an inlined
// function was called from: there is nothing but the mark that the compiler leaves
// of it, for stacks, and what the function does before it calls.
const inlinedCall = 128

// callerAt names the line that a call which returns to ret was made from. Where
// that is within an inlined function of package runtime/debug, the code before it
// is its caller's: the runtime's tables have the innermost function alone. What
// lies before another such function is the line of that one, and passed over.
func callerAt(ret uintptr) (Line, bool) {
	var called, other string
	var passed, last Line
	for pc := ret; pc > ret-inlinedCall; pc-- {
		f, _ := runtime.CallersFrames([]uintptr{pc}).Next()
		at := Line{Function: f.Function, File: f.File, Line: f.Line}
		switch {
		case f.Function == "":
			return last, last.Line > 0
		case strings.HasPrefix(f.Function, "runtime/debug."):
			if f.Func != nil { // not inlined: nobody's call but the package's own
				return Line{}, false
			}
			if called == "" {
				called = f.Function
			}
			if f.Function != called {
				other = f.Function
			}
		case other != "":
			passed, last, other = at, at, ""
		case at != passed:
			return at, true
		}
	}
	return last, last.Line > 0
}

// program is the code of the running program, in its file.
type program struct {
	file *elf.File
	text *elf.Section
	bias uint64 // what the addresses in memory are more than those in the file
}

func openProgram() (*program, error) {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	p := &program{file: f, text: f.Section(".text")}
	entry, err := entryPoint()
	switch {
	case err != nil:
	case p.text == nil || p.text.Type != elf.SHT_PROGBITS || p.text.Size > maxText:
		err = errors.New("the executable has no code that can be read")
	case f.Machine != elf.EM_X86_64 && f.Machine != elf.EM_AARCH64 || f.ByteOrder != binary.LittleEndian:
		err = fmt.Errorf("calls of %v are not known", f.Machine)
	default:
		p.bias = entry - f.Entry
		return p, nil
	}
	_ = f.Close()
	return nil, err
}

// entryPoint is where the kernel began the program.
func entryPoint() (uint64, error) {
	const atEntry = 9 // AT_ENTRY of elf(5)
	aux, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		return 0, err
	}
	for ; len(aux) >= 16; aux = aux[16:] {
		if binary.NativeEndian.Uint64(aux) == atEntry {
			return binary.NativeEndian.Uint64(aux[8:]), nil
		}
	}
	return 0, errors.New("the kernel does not say where the program begins")
}

// reached are the addresses, in the file, that a call of a function of package
// runtime/debug may lead to: its own, and those of the functions of that package
// that it calls in turn, for compilers put it into its callers.
func (p *program) reached(f any) []uint64 {
	own := uint64(reflect.ValueOf(f).Pointer()) - p.bias
	out := []uint64{own}
	code := make([]byte, 256)
	n, _ := p.text.ReadAt(code, int64(own-p.text.Addr))
	p.callsIn(code[:n], own, func(target, ret uint64) {
		in := runtime.FuncForPC(uintptr(p.bias + ret))
		to := runtime.FuncForPC(uintptr(p.bias + target))
		if in != nil && to != nil && uint64(in.Entry()) == p.bias+own && uint64(to.Entry()) == p.bias+target && strings.HasPrefix(to.Name(), "runtime/debug.") {
			out = append(out, target)
		}
	})
	return out
}

// calls yields all calls in the code, with the address that each returns to. An
// error says that not all of the code was read.
func (p *program) calls(until time.Time, yield func(target, ret uint64)) error {
	const overlap = 4 // a call is at most one byte longer
	buf := make([]byte, chunk)
	for at := uint64(0); at < p.text.Size; {
		if time.Now().After(until) {
			return errors.New("it took too long")
		}
		n, err := p.text.ReadAt(buf, int64(at))
		if err != nil && !(errors.Is(err, io.EOF) && at+uint64(n) == p.text.Size) {
			return err
		}
		p.callsIn(buf[:n], p.text.Addr+at, yield)
		if at += uint64(n); at < p.text.Size {
			at -= overlap
		}
	}
	return nil
}

// callsIn yields what looks like a direct call in a piece of code, which begins
// at base. On amd64 any byte may begin one; the chance that data in between leads
// to one certain function is one in four thousand million.
func (p *program) callsIn(code []byte, base uint64, yield func(target, ret uint64)) {
	if p.file.Machine == elf.EM_AARCH64 {
		for i := int(-base & 3); i+4 <= len(code); i += 4 { // BL
			if w := binary.LittleEndian.Uint32(code[i:]); w&0xfc000000 == 0x94000000 {
				at := base + uint64(i)
				yield(at+uint64(int64(int32(w<<6)>>6)*4), at+4)
			}
		}
		return
	}
	for i := 0; i+5 <= len(code); i++ { // CALL rel32
		next := bytes.IndexByte(code[i:len(code)-4], 0xe8)
		if next < 0 {
			return
		}
		i += next
		ret := base + uint64(i) + 5
		yield(ret+uint64(int64(int32(binary.LittleEndian.Uint32(code[i+1:])))), ret)
	}
}
