package heaptypes

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
)

// Record is one stack of a heap profile.
type Record struct {
	// Stack has return addresses, from the leaf on.
	Stack []uint64
	// Leaf is the address that the profile's leaf location has, and Above those of
	// the locations above it, as many as are known.
	Leaf  uint64
	Above []uint64
	// Size is that of one of its objects; 0 = unknown.
	Size int64
}

// Builder puts a Table together, record by record.
type Builder struct {
	r       *Resolver
	number  uint32 // of those that r made, from 1 on
	nameOf  func(leaf uint64) string
	records int
	sites   []built
	deep    map[string]int32 // places in sites of those with callers
	types   []Type
	places  map[placeKey]int
	whole   []bool // of each type: its parts are there
}

// placeKey tells types apart; two whose names are shortened may be called the
// same.
type placeKey struct {
	name string
	size int64
}

// built is a site before it is written down.
type built struct {
	leaf    uint64
	callers []uint64
	answer  *answer
	typ     int
}

// maxTypes bounds a table's types, maxSites its sites.
const (
	maxTypes = 100_000
	maxSites = 100_000
)

// NewBuilder begins a table of what r's image allocates, of about that many
// records. Closures are named by the function that a leaf's address is in.
func (r *Resolver) NewBuilder(records int, nameOf func(leaf uint64) string) *Builder {
	if r.full() {
		r.forget()
	}
	if len(r.pcs) == 0 {
		// There are about half as many functions and types as there are sites.
		r.pcs, r.funcs, r.types = make(map[uint64]*place, records), make(map[uint64]*function, records/2), make(map[uint64]*descriptor, records/2)
	}
	r.builders++
	return &Builder{
		r: r, number: r.builders, nameOf: nameOf, sites: make([]built, 0, records),
		deep: map[string]int32{}, types: make([]Type, 0, records/2), places: make(map[placeKey]int, records/2),
	}
}

// Add says what the objects of one more stack are. It is false when the table is
// full.
func (b *Builder) Add(rec Record) bool {
	if len(b.sites) >= maxSites || len(b.types) >= maxTypes {
		return false
	}
	b.records++
	a := b.r.resolve(rec.Stack)
	switch {
	case a.reason != "":
	case a.callers > len(rec.Above):
		a = &answer{reason: whyOperand}
	case a.typ != nil && !Fits(a.form, a.typ.size, rec.Size):
		a = &answer{reason: whySize}
	}
	s := built{leaf: rec.Leaf, answer: a}
	if a.callers == 0 {
		leaf := b.r.at(s.leaf + 1)
		if leaf.siteOf == b.number {
			b.again(leaf.site, a)
			return true
		}
		leaf.siteOf, leaf.site = b.number, int32(len(b.sites))
	} else {
		s.callers = slices.Clone(rec.Above[:a.callers])
		key := fmt.Sprint(s.leaf, s.callers)
		if i, ok := b.deep[key]; ok {
			b.again(i, a)
			return true
		}
		b.deep[key] = int32(len(b.sites))
	}
	if a.reason == "" {
		s.typ = b.place(a, s.leaf)
	}
	b.sites = append(b.sites, s)
	return true
}

// again compares an answer with the one that there is for its site. What the
// runtime allocated on the way, and objects that are not of the type's size, do
// not count against the rest: they are told apart by size when the table is used.
func (b *Builder) again(i int32, a *answer) {
	had := &b.sites[i]
	switch {
	case had.answer.same(a), a.weak(), had.answer.reason == whySeveral:
	case had.answer.weak():
		had.answer, had.typ = a, b.place(a, had.leaf)
	default:
		had.answer = &answer{reason: whySeveral}
	}
}

func (a *answer) same(o *answer) bool {
	return a.typ == o.typ && a.form == o.form && a.reason == o.reason && (a.implied == o.implied || a.typ != nil || a.implied != nil && o.implied != nil && *a.implied == *o.implied)
}

// weak says that an answer gives way to any other.
func (a *answer) weak() bool { return a.reason != "" || a.implied == &runtimeOther }

// Table returns what was found. The caller fills in what it is of.
func (b *Builder) Table() Table {
	t := Table{Schema: Schema, Records: b.records, Sites: make([]Site, 0, len(b.sites)), Types: b.types, Unresolved: []Unresolved{}, Losses: []string{}}
	why := map[string]int{}
	for _, o := range b.order() {
		s := &b.sites[o.i]
		if s.answer.reason != "" {
			why[s.answer.reason]++
			continue
		}
		site := Site{Address: Address(s.leaf), Type: s.typ, Form: s.answer.form, Confidence: s.answer.confidence}
		for _, c := range s.callers {
			site.Callers = append(site.Callers, Address(c))
		}
		t.Sites = append(t.Sites, site)
	}
	for reason, n := range why {
		t.Unresolved = append(t.Unresolved, Unresolved{Reason: reason, Sites: n})
	}
	slices.SortFunc(t.Unresolved, func(x, y Unresolved) int {
		return cmp.Or(cmp.Compare(y.Sites, x.Sites), cmp.Compare(x.Reason, y.Reason))
	})
	if t.Types == nil {
		t.Types = []Type{}
	}
	return t
}

// ordered is a site by what it is sorted by: moving those is cheaper.
type ordered struct {
	leaf uint64
	i    int32
}

func (b *Builder) order() []ordered {
	out := make([]ordered, len(b.sites))
	for i := range b.sites {
		out[i] = ordered{b.sites[i].leaf, int32(i)}
	}
	slices.SortFunc(out, func(x, y ordered) int {
		switch {
		case x.leaf < y.leaf:
			return -1
		case x.leaf > y.leaf:
			return 1
		}
		return slices.Compare(b.sites[x.i].callers, b.sites[y.i].callers)
	})
	return out
}

// Fits compares the size of objects with that of the type that they are said to
// be of, where one object is one value. The allocator's size classes are 8 or 16
// bytes apart up to 256, 32 up to 512, and up to 19 % above; types with pointers
// above 512 bytes get a word more; above 32 KiB there are pages. An unknown size,
// 0, fits.
func Fits(form Form, typ, object int64) bool {
	const word, page, large = 8, 8192, 32 << 10
	over := object - typ
	switch {
	case object <= 0 || typ <= 0:
		return true
	case form == FormSlice:
		return over >= 0
	case form != FormNew && form != FormInterface && form != FormClosure:
		return true
	case typ <= 256:
		return over >= 0 && over < 16
	case typ <= 512:
		return over >= 0 && over < 32+word
	case typ <= large-word:
		return over >= 0 && over <= typ/5+word
	}
	return over >= 0 && over <= page+word
}

// place returns the place of an answer's type in the table, where it is added if
// it is new.
func (b *Builder) place(a *answer, leaf uint64) int {
	switch {
	case a.typ == nil:
		return b.implied(a.implied)
	case a.form == FormClosure && b.nameOf != nil:
		if in := b.nameOf(leaf); in != "" {
			return b.describe(a.typ, "closure in "+in, true)
		}
	}
	if a.typ.in != b.number {
		a.typ.in, a.typ.place = b.number, b.describe(a.typ, readable(a.typ.name), true)
	}
	return a.typ.place
}

func (b *Builder) implied(t *impliedType) int {
	k := placeKey{t.name, t.size}
	i, ok := b.places[k]
	if !ok {
		i = len(b.types)
		b.places[k] = i
		b.types, b.whole = append(b.types, Type{Name: t.name, Kind: t.kind, Size: t.size}), append(b.whole, false)
	}
	return i
}

// describe adds a type and, if it is wanted whole, what a value of it holds: the
// types within it whole as well, those that it points to by name.
func (b *Builder) describe(d *descriptor, name string, whole bool) int {
	k := placeKey{name, d.size}
	i, ok := b.places[k]
	if !ok {
		i = len(b.types)
		b.places[k] = i
		b.types, b.whole = append(b.types, Type{Name: name, Kind: d.kind.String(), Size: d.size, Shape: d.shape}), append(b.whole, false)
	}
	pointer := d.kind == reflect.Pointer
	if b.whole[i] || !whole && !pointer || len(b.types) >= maxTypes {
		return i
	}
	b.whole[i] = true
	part := func(addr uint64) *int {
		p := b.r.typeAt(addr)
		if p == nil {
			return nil
		}
		n := b.describe(p, readable(p.name), !pointer)
		return &n
	}
	elem, key := part(d.elem), part(d.key)
	var fields []int
	for _, f := range b.r.fieldTypes(d) {
		within := f.kind == reflect.Struct || f.kind == reflect.Array
		fields = append(fields, b.describe(f, readable(f.name), within))
	}
	b.types[i].Elem, b.types[i].Key, b.types[i].Fields = elem, key, fields
	return i
}
