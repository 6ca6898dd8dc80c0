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
	// Entry returns where the function begins that an address is in, the outermost
	// where others are inlined into it; 0 if there is none.
	Entry(pc uint64) uint64
	// Name returns the name of the function that begins at an Entry.
	Name(entry uint64) string
	// TypeBase is what the offsets of names in type descriptors count from.
	TypeBase() uint64
}

// Resolver says what allocation sites of one Image allocate. It remembers what
// it has seen, within bounds. It is not safe for concurrent use.
type Resolver struct {
	// Fallback, if there is one, is asked for what lies in a register before a
	// call where reading back from the call did not tell. Its stack begins with
	// the call's return address and goes on with those of the callers. Callers is
	// how many of these the answer depends on.
	Fallback func(stack []uint64, argument int) (addr uint64, callers int, ok bool)

	img  Image
	arch *architecture
	// stays is set if the read-only data stay where they are as long as the process
	// does, and keep no other memory: names need no copies then.
	stays    bool
	pcs      map[uint64]*place    // by return address
	funcs    map[uint64]*function // by entry
	types    map[uint64]*descriptor
	builders uint32 // that were made
	// Room for the next ones.
	places      []place
	functions   []function
	descriptors []descriptor

	// intervenes is isCall, and take keeps in found the type at an address: values
	// that are made once.
	intervenes func(target uint64) bool
	take       func(addr uint64) bool
	found      *descriptor

	// recent are some of pcs: the frames of the runtime are in every stack.
	recent [256]struct {
		ret uint64
		p   *place
	}
}

// maxRemembered bounds each of a Resolver's memories; the largest programs that
// were measured have 20,000 sites.
const maxRemembered = 1 << 17

// function is what is known of one of an Image.
type function struct {
	entry                                     uint64
	name                                      string
	runtime, malloc, detour, reflect, barrier bool
	callee                                    *callee // nil if it is no allocator
}

// place is what is known of a return address.
type place struct {
	in       *function // nil if it is in none
	resolved bool
	answer   answer
	shown    shown

	// siteOf is the number of the last table that has a site of this leaf, which needs
	// no callers, at site.
	siteOf uint32
	site   int32
}

// shown is whether a profile shows a place at the leaf of its stacks.
type shown uint8

const (
	notAsked shown = iota
	yes
	no
)

// answer is what one call allocates.
type answer struct {
	typ        *descriptor  // nil: see implied
	implied    *impliedType // nil: see reason
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
	r.intervenes = r.isCall
	r.take = func(addr uint64) bool {
		r.found = r.typeAt(addr)
		return r.found == nil
	}
	r.forget()
	return r
}

// next takes one of a number that were made together.
func next[T any](room *[]T) *T {
	if len(*room) == 0 {
		*room = make([]T, 64)
	}
	x := &(*room)[0]
	*room = (*room)[1:]
	return x
}

func (r *Resolver) forget() {
	r.pcs, r.funcs, r.types = map[uint64]*place{}, map[uint64]*function{}, map[uint64]*descriptor{}
	clear(r.recent[:])
}

// full reports whether it is time to forget.
func (r *Resolver) full() bool {
	return max(len(r.pcs), len(r.funcs), len(r.types)) > maxRemembered
}

// at returns the place that a call returns to.
func (r *Resolver) at(ret uint64) *place {
	recent := &r.recent[ret>>1%uint64(len(r.recent))]
	if recent.ret == ret && recent.p != nil {
		return recent.p
	}
	p := r.pcs[ret]
	if p == nil {
		p = r.enter(ret)
	}
	recent.ret, recent.p = ret, p
	return p
}

func (r *Resolver) enter(ret uint64) *place {
	p := next(&r.places)
	p.in = r.functionAt(ret - 1)
	r.pcs[ret] = p
	return p
}

func (r *Resolver) functionAt(pc uint64) *function {
	entry := r.img.Entry(pc)
	if entry == 0 {
		return nil
	}
	f := r.funcs[entry]
	if f == nil {
		name := r.img.Name(entry)
		f = next(&r.functions)
		*f = function{
			entry: entry, name: name, runtime: isRuntime(name), malloc: isMalloc(name), detour: isDetour(name),
			reflect: isReflect(name), barrier: isBarrier(name),
		}
		if c, ok := allocator(name); ok {
			known := c
			f.callee = &known
		}
		r.funcs[entry] = f
	}
	return f
}

// beginning returns the function that begins at an address; nil if none does.
func (r *Resolver) beginning(entry uint64) *function {
	if f := r.funcs[entry]; f != nil {
		return f
	}
	if f := r.functionAt(entry); f != nil && f.entry == entry {
		return f
	}
	return nil
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
func (r *Resolver) callOf(stack []uint64) (at int, p *place, own bool) {
	left := false // the allocator that the stack begins in
	for i, ret := range stack {
		p := r.at(ret)
		if p.in == nil {
			return -1, nil, false
		}
		if !p.in.runtime {
			return i, p, own
		}
		// A second allocator further up did something else on its way, such as
		// starting a collection.
		own = own || p.in.detour || i == 0 && !p.in.malloc || left && p.in.malloc
		left = left || !p.in.malloc
	}
	return -1, nil, len(stack) > 0
}

// resolve says what the objects of a stack are. The stack has return addresses,
// from the leaf on, with or without the allocator's own frames.
// The answer must not be changed.
func (r *Resolver) resolve(stack []uint64) *answer {
	i, p, own := r.callOf(stack)
	switch {
	case own:
		return &answer{implied: &runtimeOther, form: FormRuntime, confidence: Implied}
	case p == nil:
		return &answer{reason: whyNoFunction}
	case p.resolved:
		return &p.answer
	}
	p.answer = r.call(p.in, stack[i:])
	if p.answer.callers > 0 { // of this stack alone
		a := p.answer
		return &a
	}
	p.resolved = true
	return &p.answer
}

// call says what the call in a function that returns to stack[0] allocates.
func (r *Resolver) call(in *function, stack []uint64) answer {
	ret := stack[0]
	target, ok := r.arch.target(r.img.Code(ret-r.arch.callLen, int(r.arch.callLen)), ret)
	if !ok {
		return answer{reason: whyNoCall}
	}
	f := r.beginning(target)
	if f == nil || f.callee == nil {
		return answer{reason: whyCallee}
	}
	a := answer{form: f.callee.form, implied: &f.callee.implied, confidence: Implied}
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
	switch {
	case a.typ != nil:
		return r.refine(a)
	case f.name == "runtime.mallocgc" && r.untyped(in, ret, f.callee.operand):
		return answer{form: FormBytes, implied: &noPointers, confidence: Implied}
	case in.reflect:
		return answer{reason: whyReflect}
	}
	return answer{reason: whyOperand}
}

// refine fits an answer to the type that was found.
func (r *Resolver) refine(a answer) answer {
	switch {
	case a.form == FormMap && a.typ.kind != reflect.Map, a.form == FormChan && a.typ.kind != reflect.Chan:
		return answer{reason: whyOperand} // chance, or a runtime that we do not know
	case a.typ.closure && a.form == FormNew:
		a.form = FormClosure
	case a.form == FormSlice && a.typ.name == "uint8":
		a.form, a.typ, a.implied = FormBytes, nil, &byteSlice
	}
	if a.typ != nil && a.typ.shape {
		a.confidence = Shape
	}
	return a
}

// before returns the code before a call, and where it begins.
func (r *Resolver) before(in *function, ret uint64) (code []byte, from uint64) {
	call := ret - r.arch.callLen
	from = max(in.entry, call-min(call, lookBack))
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
func (r *Resolver) operandOf(in *function, ret uint64, n operand) *descriptor {
	code, from := r.before(in, ret)
	r.found = nil
	r.arch.loads(code, from, n, r.intervenes, r.take)
	return r.found
}

// isCall tells calls from bytes that look like one.
func (r *Resolver) isCall(target uint64) bool {
	f := r.beginning(target)
	return f != nil && !f.barrier
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
