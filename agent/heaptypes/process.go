package heaptypes

import (
	"context"
	"fmt"
	"reflect"
	"runtime"
	"time"
	"unsafe"
)

// Process reads the running program. It is an Image and remembers what it found
// between calls. It is not safe for concurrent use.
type Process struct {
	text, readOnly []span
	base           uint64
	resolver       *Resolver
}

// span is a range of addresses that are mapped as long as the program runs.
type span struct{ from, to uint64 }

// NewProcess looks at how the program is mapped and tries itself on calls whose
// types it knows. An error says why types cannot be told in this process; it
// will not go away.
func NewProcess() (p *Process, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("looking at the program panicked: %v", r)
		}
	}()
	if unsafe.Sizeof(uintptr(0)) != 8 || architectureOf(runtime.GOARCH) == nil {
		return nil, fmt.Errorf("the machine code of %s is not known to it", runtime.GOARCH)
	}
	p = &Process{}
	if p.text, p.readOnly, err = ownSpans(uint64(reflect.ValueOf(NewProcess).Pointer())); err != nil {
		return nil, err
	}
	if p.base, err = p.findBase(); err != nil {
		return nil, err
	}
	p.resolver = NewResolver(p)
	p.resolver.stays = true
	if err := p.tryIt(); err != nil {
		return nil, err
	}
	return p, nil
}

// Arch implements Image.
func (p *Process) Arch() string { return runtime.GOARCH }

// TypeBase implements Image.
func (p *Process) TypeBase() uint64 { return p.base }

// Code implements Image.
func (p *Process) Code(addr uint64, n int) []byte { return bytesWithin(p.text, addr, n) }

// ReadOnly implements Image.
func (p *Process) ReadOnly(addr uint64, n int) []byte { return bytesWithin(p.readOnly, addr, n) }

// Entry implements Image.
func (p *Process) Entry(pc uint64) uint64 {
	if !within(p.text, pc, 1) {
		return 0
	}
	if f := runtime.FuncForPC(uintptr(pc)); f != nil {
		return uint64(f.Entry())
	}
	return 0
}

// Name implements Image.
func (p *Process) Name(entry uint64) string {
	if f := runtime.FuncForPC(uintptr(entry)); f != nil {
		return f.Name()
	}
	return ""
}

func within(spans []span, addr uint64, n int) bool {
	for _, s := range spans {
		if addr >= s.from && addr < s.to && uint64(n) <= s.to-addr {
			return true
		}
	}
	return false
}

// bytesWithin is the only place that reads memory by its address.
func bytesWithin(spans []span, addr uint64, n int) []byte {
	if n <= 0 || !within(spans, addr, n) {
		return nil
	}
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&addr)), n)
}

// Limits of one table.
const (
	maxRecords = 100_000 // of 288 bytes each while they are looked at
	maxTime    = 2 * time.Second
	lookUp     = 256 // records between looks at the clock
)

// Collect names the types of all sites of the process's heap profile. The table
// is for profiles that were written before it or shortly after.
func (p *Process) Collect(ctx context.Context) (t Table, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("naming the types of the heap panicked: %v", r)
		}
	}()
	records, total := memProfile()
	b := p.resolver.NewBuilder(len(records), p.nameOf)
	var losses []string
	if total > len(records) {
		losses = append(losses, fmt.Sprintf("the heap profile has %d stacks, of which %d were looked at: those with live objects first", total, len(records)))
	}
	until := time.Now().Add(maxTime)
	stack := make([]uint64, 0, 64)
	for i := range records {
		if i%lookUp == lookUp-1 {
			if ctx.Err() != nil {
				return t, ctx.Err()
			}
			if time.Now().After(until) {
				losses = append(losses, fmt.Sprintf("only %d of %d stacks were looked at within %v", i, len(records), maxTime))
				break
			}
		}
		stack = stack[:0]
		for _, pc := range records[i].Stack() {
			stack = append(stack, uint64(pc))
		}
		if len(stack) > 0 && !b.Add(p.record(stack, &records[i])) {
			losses = append(losses, fmt.Sprintf("only %d of %d stacks were looked at: the table is full", i, len(records)))
			break
		}
	}
	t = b.Table()
	t.Taken = time.Now()
	t.Build = Build{GoVersion: runtime.Version(), GOOS: runtime.GOOS, GOARCH: runtime.GOARCH}
	t.TextStart = Address(p.text[0].from)
	t.Losses = append(t.Losses, losses...)
	return t, nil
}

// memProfile returns the records of the heap profile, those with live objects
// first if there are too many, and how many there are.
func memProfile() (records []runtime.MemProfileRecord, total int) {
	for _, all := range []bool{true, false} {
		n, ok := runtime.MemProfile(nil, all)
		for range 5 {
			if total = max(total, n); n > maxRecords {
				break
			}
			records = make([]runtime.MemProfileRecord, n+n/50+32)
			if n, ok = runtime.MemProfile(records, all); ok {
				return records[:n], max(total, n)
			}
		}
	}
	return nil, total
}

// record says of a stack what the profile shows of it. The profile's writer
// leaves out frames on top whose functions are the runtime's, by the name of the
// innermost function there, and if no others are left it shows them all.
func (p *Process) record(stack []uint64, m *runtime.MemProfileRecord) Record {
	rec := Record{Stack: stack}
	if m.AllocObjects > 0 {
		rec.Size = m.AllocBytes / m.AllocObjects
	}
	for _, ret := range stack {
		if p.shows(ret) {
			rec.Leaf = ret - 1
			return rec
		}
	}
	rec.Leaf = stack[0] - 1
	return rec
}

func (p *Process) shows(ret uint64) bool {
	at := p.resolver.at(ret)
	if at.shown == notAsked {
		at.shown = yes
		if f := runtime.FuncForPC(uintptr(ret)); f != nil && hiddenInProfiles(f.Name()) {
			at.shown = no
		}
	}
	return at.shown == yes
}

// nameOf names the innermost function at an address.
func (p *Process) nameOf(pc uint64) string {
	if f := runtime.FuncForPC(uintptr(pc)); f != nil {
		return f.Name()
	}
	return ""
}
