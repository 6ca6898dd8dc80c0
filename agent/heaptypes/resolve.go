package heaptypes

import "reflect"

// Image is a program to read: the running one, or an executable file. Addresses
// are as its code has them.
type Image interface {
	// Arch is the architecture as GOARCH has it.
	Arch() string
	// Code returns n bytes of machine code, or nil if not all of them are.
	Code(addr uint64, n int) []byte
	// ReadOnly returns n bytes of data that the program cannot change, or nil if
	// not all of them are.
	ReadOnly(addr uint64, n int) []byte
	// Func returns the function that an address is in, the outermost where others
	// are inlined into it; the zero Func if there is none.
	Func(pc uint64) Func
	// TypeBase is what the offsets of names in type descriptors count from.
	TypeBase() uint64
}

// Func is a function of an Image.
type Func struct {
	Entry uint64
	Name  string
}

// Resolver says what allocation sites of one Image allocate. It remembers what
// it has seen, within bounds. It is not safe for concurrent use.
type Resolver struct {
	// Fallback, if there is one, is asked for what lies in a register before a
	// call where reading back from the call did not tell. Its stack begins with
	// the call's return address and goes on with those of the callers. Callers is
	// how many of these the answer depends on.
	Fallback func(stack []uint64, argument int) (addr uint64, callers int, ok bool)

	img   Image
	arch  *architecture
	pcs   map[uint64]*function // by return address
	funcs map[uint64]*function // by entry
	calls map[uint64]*answer   // by return address
	types map[uint64]*descriptor
}

// maxRemembered bounds each of a Resolver's memories; the largest programs that
// were measured have 20,000 sites.
const maxRemembered = 1 << 17

// function is what is known of one of an Image.
type function struct {
	Func
	runtime, malloc, detour, reflect, barrier bool
	allocates                                 bool
	callee                                    callee
}

// answer is what one call allocates.
type answer struct {
	typ        *descriptor // nil: see implied
	implied    impliedType
	form       Form
	confidence Confidence
	callers    int    // the locations above the call that it depends on
	reason     string // why nothing is known; "" if something is
}

// NewResolver returns one for img, or nil if there is nothing to be read on its
// architecture.
func NewResolver(img Image) *Resolver {
	r := &Resolver{img: img, arch: architectureOf(img.Arch())}
	if r.arch == nil {
		return nil
	}
	r.forget()
	return r
}

func (r *Resolver) forget() {
	r.pcs, r.funcs = map[uint64]*function{}, map[uint64]*function{}
	r.calls, r.types = map[uint64]*answer{}, map[uint64]*descriptor{}
}

// full reports whether it is time to forget.
func (r *Resolver) full() bool {
	return max(len(r.pcs), len(r.funcs), len(r.calls), len(r.types)) > maxRemembered
}

// functionOf returns the function that a call returns into; nil if there is none.
func (r *Resolver) functionOf(ret uint64) *function {
	if f, ok := r.pcs[ret]; ok {
		return f
	}
	f := r.functionAt(ret - 1)
	r.pcs[ret] = f
	return f
}

func (r *Resolver) functionAt(pc uint64) *function {
	at := r.img.Func(pc)
	if at.Entry == 0 {
		return nil
	}
	f, ok := r.funcs[at.Entry]
	if !ok {
		f = &function{
			Func: at, runtime: isRuntime(at.Name), malloc: isMalloc(at.Name), detour: isDetour(at.Name),
			reflect: isReflect(at.Name), barrier: isBarrier(at.Name),
		}
		f.callee, f.allocates = allocator(at.Name)
		r.funcs[at.Entry] = f
	}
	return f
}

// Why a site has no type.
const (
	whyNoFunction = "the address is in no function"
	whyNoCall     = "no direct call lies before the address"
	whyCallee     = "what is called is no known allocator"
	whyOperand    = "the type's descriptor was not found before the call"
	whyReflect    = "reflection decides the type at run time"
	whySize       = "the objects are of another size than the type"
	whySeveral    = "several types are allocated at the address"
)

// callOf returns the place in stack of the call that the program made, above
// all frames of the allocator; -1 if there is none. own is set if the object
// is none of the program's.
func (r *Resolver) callOf(stack []uint64) (at int, own bool) {
	for i, ret := range stack {
		f := r.functionOf(ret)
		if f == nil {
			return -1, false
		}
		if !f.runtime {
			return i, i > 0 && own
		}
		own = own || f.detour || i == 0 && !f.malloc
	}
	return -1, len(stack) > 0
}

// resolve says what the objects of a stack are. The stack has return addresses,
// from the leaf on, with or without the allocator's own frames.
func (r *Resolver) resolve(stack []uint64) *answer {
	i, own := r.callOf(stack)
	switch {
	case own:
		return &answer{implied: runtimeOther, form: FormRuntime, confidence: Implied}
	case i < 0:
		return &answer{reason: whyNoFunction}
	}
	if a, ok := r.calls[stack[i]]; ok {
		return a
	}
	a := r.call(stack[i:])
	if a.callers == 0 {
		r.calls[stack[i]] = a
	}
	return a
}

// call says what the call that returns to stack[0] allocates.
func (r *Resolver) call(stack []uint64) *answer {
	ret := stack[0]
	in := r.functionOf(ret)
	target, ok := r.arch.target(r.img.Code(ret-r.arch.callLen, int(r.arch.callLen)), ret)
	if !ok {
		return &answer{reason: whyNoCall}
	}
	f := r.functionAt(target)
	if f == nil || f.Entry != target || !f.allocates {
		return &answer{reason: whyCallee}
	}
	a := &answer{form: f.callee.form, implied: f.callee.implied, confidence: Implied}
	if f.callee.operand == noOperand {
		return a
	}
	a.confidence = Exact
	a.typ = r.operandOf(in, ret, f.callee.operand)
	if a.typ == nil {
		a.typ, a.callers = r.ask(stack, f.callee.operand)
		a.confidence = Flow
		if a.callers > 0 {
			a.confidence = Caller
		}
	}
	if a.typ == nil && f.Name == "runtime.mallocgc" && r.untyped(in, ret, f.callee.operand) {
		return &answer{form: FormBytes, implied: noPointers, confidence: Implied}
	}
	if a.typ == nil {
		reason := whyOperand
		if in.reflect {
			reason = whyReflect
		}
		return &answer{reason: reason}
	}
	return r.refine(a)
}

// refine fits an answer to the type that was found.
func (r *Resolver) refine(a *answer) *answer {
	switch {
	case a.form == FormMap && a.typ.kind != reflect.Map, a.form == FormChan && a.typ.kind != reflect.Chan:
		return &answer{reason: whyOperand} // chance, or a runtime that we do not know
	case a.typ.closure && a.form == FormNew:
		a.form = FormClosure
	case a.form == FormSlice && a.typ.kind == reflect.Uint8 && !a.typ.named:
		a.form, a.typ, a.implied = FormBytes, nil, byteSlice
	case a.form == FormSlice && a.typ.kind == reflect.Uint8 && a.typ.name == "uint8":
		a.form, a.typ, a.implied = FormBytes, nil, byteSlice
	}
	if a.typ != nil && a.typ.shape {
		a.confidence = Shape
	}
	return a
}

// before returns the code before a call, and where it begins.
func (r *Resolver) before(in *function, ret uint64) (code []byte, from uint64) {
	call := ret - r.arch.callLen
	from = max(in.Entry, call-min(call, lookBack))
	return r.img.Code(from, int(call-from)), from
}

// untyped says that a call asks for data without pointers, of whatever type: the
// compiler does for copies of byte slices and the like.
func (r *Resolver) untyped(in *function, ret uint64, n operand) bool {
	code, _ := r.before(in, ret)
	return r.arch.zeroes(code, n)
}

// operandOf reads back from a call for what was loaded into an argument's
// register.
func (r *Resolver) operandOf(in *function, ret uint64, n operand) (found *descriptor) {
	code, from := r.before(in, ret)
	r.arch.loads(code, from, n, r.isCall, func(addr uint64) bool {
		found = r.typeAt(addr)
		return found == nil
	})
	return found
}

// isCall tells calls from bytes that look like one.
func (r *Resolver) isCall(target uint64) bool {
	f := r.functionAt(target)
	return f != nil && f.Entry == target && !f.barrier
}

// ask asks the fallback.
func (r *Resolver) ask(stack []uint64, n operand) (*descriptor, int) {
	if r.Fallback == nil {
		return nil, 0
	}
	addr, callers, ok := r.Fallback(stack, int(n))
	if !ok {
		return nil, 0
	}
	return r.typeAt(addr), callers
}
