package heaptypes

import (
	"encoding/binary"
	"sort"
	"strings"
)

// flow follows values backwards through machine code: from a register before a
// call to the constant that was put into it, over moves, spills to the stack,
// loads from constants, and from a function's parameters into its caller. It is
// what reading back a few bytes from a call cannot do: dictionaries of generic
// functions, and operands that were loaded long before.
type flow struct {
	b         *Binary
	argument  []register
	stack     register
	decode    func(code []byte, pc uint64) []instruction
	functions map[uint64]*function
	decoded   int // instructions held
	steps     int // left of the current question
}

// Limits of what one profile may cost: a question takes a few dozen steps, a
// function has a few thousand instructions.
const (
	maxSteps        = 20_000
	maxDepth        = 64
	maxFunction     = 1 << 20
	maxInstructions = 4 << 20 // of 48 bytes
)

type register int8

const noRegister register = -1

// operation is as much of an instruction as matters here.
type operation uint8

const (
	other    operation = iota // writes to, if any, something unknown
	constant                  // to = value
	add                       // to = from + value
	move                      // to = from
	load                      // to = [from + value]
	loadAt                    // to = [value]
	store                     // [to + value] = from; to is read
	call                      // of value, 0 if unknown
	jump                      // to value, 0 if it leaves the function; the next instruction does not follow
	branch                    // to value, or on
)

type instruction struct {
	pc       uint64
	value    uint64
	len      uint8
	op       operation
	to, from register
	also     register // one more that is written
}

type function struct {
	entry uint64
	code  []instruction
	// jumps has the instructions that jump to an address, the first of them.
	jumps map[uint64]int
	// spills has the instructions that store to an offset from the stack pointer.
	spills map[uint64][]int
}

func newFlow(b *Binary) *flow {
	f := &flow{b: b, functions: map[uint64]*function{}}
	if b.arch == "arm64" {
		f.argument, f.stack, f.decode = []register{0, 1, 2, 3, 4}, 31, decodeARM64
	} else {
		f.argument, f.stack, f.decode = []register{0, 3, 1, 7, 6}, 4, decodeAMD64
	}
	return f
}

// operand answers the guest's Resolver.
func (f *flow) operand(stack []uint64, argument int) (addr uint64, callers int, ok bool) {
	if len(stack) == 0 || argument >= len(f.argument) {
		return 0, 0, false
	}
	f.steps = maxSteps
	fn := f.function(stack[0])
	at := fn.callBefore(stack[0])
	if at < 0 {
		return 0, 0, false
	}
	return f.value(fn, at, f.argument[argument], stack, 0)
}

// function decodes the one that a call returns into.
func (f *flow) function(ret uint64) *function {
	from, to, name := f.b.funcs.find(ret - 1 - f.b.text)
	entry := f.b.text + from
	if fn, ok := f.functions[entry]; ok {
		return fn
	}
	fn := &function{entry: entry, jumps: map[uint64]int{}, spills: map[uint64][]int{}}
	if code := f.b.Code(entry, int(min(to-from, maxFunction))); len(name) > 0 && code != nil {
		fn.code = f.decode(code, entry)
	}
	for i, in := range fn.code {
		switch {
		case in.op == jump || in.op == branch:
			if _, ok := fn.jumps[in.value]; !ok {
				fn.jumps[in.value] = i
			}
		case in.op == store && in.to == f.stack:
			fn.spills[in.value] = append(fn.spills[in.value], i)
		}
	}
	if f.decoded += len(fn.code); f.decoded > maxInstructions {
		clear(f.functions)
		f.decoded = len(fn.code)
	}
	f.functions[entry] = fn
	return fn
}

// callBefore returns the call that ends at ret, or -1.
func (fn *function) callBefore(ret uint64) int {
	i := sort.Search(len(fn.code), func(i int) bool { return fn.code[i].pc >= ret }) - 1
	if i < 0 || fn.code[i].op != call || fn.code[i].pc+uint64(fn.code[i].len) != ret {
		return -1
	}
	return i
}

// value says what r holds before instruction at of fn. The stack begins with the
// return address of the call in fn; callers is how many further ones were
// followed.
func (f *flow) value(fn *function, at int, r register, stack []uint64, depth int) (v uint64, callers int, ok bool) {
	if depth > maxDepth {
		return 0, 0, false
	}
	for i := at - 1; i >= 0; i-- {
		if f.steps--; f.steps < 0 {
			return 0, 0, false
		}
		in := &fn.code[i]
		if in.op == jump {
			// What follows is reached by a jump alone.
			from, ok := fn.jumps[fn.code[i+1].pc]
			if !ok {
				return 0, 0, false
			}
			return f.value(fn, from, r, stack, depth+1)
		}
		if in.op == call {
			if f.keepsRegisters(in.value) {
				continue
			}
			return 0, 0, false
		}
		if in.op == store || in.to != r && in.also != r {
			continue
		}
		return f.written(fn, i, stack, depth)
	}
	return f.parameter(fn, r, stack, depth)
}

// keepsRegisters says that a call changes none: the write barrier has a
// convention of its own.
func (f *flow) keepsRegisters(target uint64) bool {
	return strings.Contains(f.b.Name(target), "gcWriteBarrier")
}

// written says what instruction i wrote into its register.
func (f *flow) written(fn *function, i int, stack []uint64, depth int) (uint64, int, bool) {
	in := &fn.code[i]
	switch in.op {
	case constant:
		return in.value, 0, true
	case move, add:
		v, callers, ok := f.value(fn, i, in.from, stack, depth+1)
		if in.op == add {
			v += in.value
		}
		return v, callers, ok
	case loadAt:
		return f.read(in.value, 0)
	case load:
		if in.from == f.stack {
			return f.spilled(fn, i, in.value, stack, depth)
		}
		v, callers, ok := f.value(fn, i, in.from, stack, depth+1)
		if !ok {
			return 0, 0, false
		}
		return f.read(v+in.value, callers)
	}
	return 0, 0, false
}

// read takes a pointer out of data that does not change.
func (f *flow) read(addr uint64, callers int) (uint64, int, bool) {
	b := f.b.ReadOnly(addr, 8)
	if b == nil {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(b), callers, true
}

// spilled says what lay at an offset of the stack: what the last store before i
// put there, or else the first one after.
func (f *flow) spilled(fn *function, i int, off uint64, stack []uint64, depth int) (uint64, int, bool) {
	last := -1
	for _, s := range fn.spills[off] {
		if s < i || last < 0 {
			last = s
		}
	}
	if last < 0 {
		return 0, 0, false
	}
	return f.value(fn, last, fn.code[last].from, stack, depth+1)
}

// parameter goes on in the caller of fn.
func (f *flow) parameter(fn *function, r register, stack []uint64, depth int) (uint64, int, bool) {
	if len(stack) < 2 {
		return 0, 0, false
	}
	caller := f.function(stack[1])
	at := caller.callBefore(stack[1])
	if at < 0 || caller.code[at].value != fn.entry {
		return 0, 0, false // called through something that moves registers
	}
	v, callers, ok := f.value(caller, at, r, stack[1:], depth+1)
	return v, callers + 1, ok
}
