package heaptypes

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"unsafe"
)

// findBase returns what offsets of names count from: the place of a known type's
// name less its offset, on which three types must agree.
func (p *Process) findBase() (base uint64, err error) {
	for i, t := range []reflect.Type{reflect.TypeFor[probe](), reflect.TypeFor[*probe](), reflect.TypeFor[map[probeKey]*probe]()} {
		b, err := p.baseOf(t)
		if err != nil {
			return 0, err
		}
		if i > 0 && b != base {
			return 0, errors.New("the names of types do not lie where this version of Go is known to have them")
		}
		base = b
	}
	return base, nil
}

func (p *Process) baseOf(t reflect.Type) (uint64, error) {
	at := p.ReadOnly(descriptorOf(t), sizeOfType)
	if at == nil {
		return 0, errors.New("types are not kept among the program's constants")
	}
	name := t.String()
	start := uint64(uintptr(unsafe.Pointer(unsafe.StringData(name))))
	length := len(name)
	if at[offFlags]&flagExtraStar != 0 {
		start, length = start-1, length+1
	}
	header := uint64(2) // flags and length
	if length >= 1<<7 {
		header++
	}
	offset := *(*int32)(unsafe.Pointer(&at[offStr]))
	return start - header - uint64(offset), nil
}

// descriptorOf is the address of what reflect knows a type by.
func descriptorOf(t reflect.Type) uint64 {
	return uint64(reflect.ValueOf(t).Pointer())
}

// probe is a type that only the functions below allocate.
type probe struct {
	next *probe
	name string
	rest [3]int
}

type probeKey struct{ a, b string }

//go:noinline
func probeNew() *probe { return new(probe) }

//go:noinline
func probeSlice(n int) []probe { return make([]probe, n) }

//go:noinline
func probeAppend(s []probe) []probe { return append(s, probe{}) }

//go:noinline
func probeMap(m map[probeKey]*probe, k probeKey) { m[k] = nil }

//go:noinline
func probeChan(n int) chan probe { return make(chan probe, n) }

//go:noinline
func probeInterface(v probe) any { return v }

// tryIt resolves the calls of the functions above, which are not run, and
// refuses to go on if anything comes out that is not so.
func (p *Process) tryIt() error {
	value := reflect.TypeFor[probe]()
	for _, t := range []struct {
		what string
		fn   any
		want reflect.Type
		form Form
	}{
		{"new", probeNew, value, FormNew},
		{"make of a slice", probeSlice, value, FormSlice},
		{"append", probeAppend, value, FormSlice},
		{"an assignment to a map", probeMap, reflect.TypeFor[map[probeKey]*probe](), FormMap},
		{"make of a channel", probeChan, reflect.TypeFor[chan probe](), FormChan},
		{"a conversion to an interface", probeInterface, value, FormInterface},
	} {
		want := descriptorOf(t.want)
		found := 0
		for _, a := range p.allocationsOf(reflect.ValueOf(t.fn).Pointer()) {
			if a.typ == nil || a.typ.addr != want || a.form != t.form && (t.form != FormInterface || a.form != FormNew) {
				return fmt.Errorf("in this build (%s) the type of %s is not where it is known to be", runtime.Version(), t.what)
			}
			found++
		}
		if found == 0 {
			return fmt.Errorf("in this build (%s) %s calls no allocator that is known", runtime.Version(), t.what)
		}
	}
	if d := p.resolver.typeAt(descriptorOf(value)); d == nil || d.name != value.PkgPath()+"."+value.Name() || d.size != int64(value.Size()) {
		return fmt.Errorf("in this build (%s) types are not described as they are known to be", runtime.Version())
	}
	return nil
}

// maxProbe is more code than any of the functions above has, in any build.
const maxProbe = 1024

// allocationsOf resolves every call of an allocator in a function.
func (p *Process) allocationsOf(entry uintptr) (out []answer) {
	f := p.resolver.functionAt(uint64(entry))
	if f == nil || f.entry != uint64(entry) {
		return nil
	}
	n := p.resolver.arch.callLen
	for ret := f.entry + n; ret < f.entry+maxProbe; ret++ {
		code := p.Code(ret-n, int(n))
		if code == nil || p.resolver.functionAt(ret-1) != f {
			break
		}
		target, ok := p.resolver.arch.target(code, ret)
		if !ok {
			continue
		}
		if g := p.resolver.functionAt(target); g == nil || g.entry != target || g.callee == nil {
			continue
		}
		out = append(out, p.resolver.call(f, []uint64{ret}))
	}
	return out
}
