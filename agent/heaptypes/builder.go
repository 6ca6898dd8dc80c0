package heaptypes

import (
	"cmp"
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
	// Function is that of the leaf by name, to name closures by.
	Function string
	// Size is that of one of its objects; 0 = unknown.
	Size int64
}

// Builder puts a Table together, record by record.
type Builder struct {
	r       *Resolver
	records int
	sites   map[string]*built
	leaves  map[uint64]*built // those of sites without callers
	failed  map[uint64]string // reasons by leaf
	types   []Type
	places  map[placeKey]int
	whole   map[int]bool // the types whose parts are there
}

// placeKey tells types apart; two whose names are shortened may be called the
// same.
type placeKey struct {
	name string
	size int64
}

// built is a site before it is written down.
type built struct {
	site      Site
	ambiguous bool
}

// maxTypes bounds a table's types, maxSites its sites.
const (
	maxTypes = 100_000
	maxSites = 100_000
)

// NewBuilder begins a table of what r's image allocates.
func (r *Resolver) NewBuilder() *Builder {
	if r.full() {
		r.forget()
	}
	return &Builder{r: r, sites: map[string]*built{}, leaves: map[uint64]*built{}, failed: map[uint64]string{}, places: map[placeKey]int{}, whole: map[int]bool{}}
}

// Add says what the objects of one more stack are. It is false when the table is
// full.
func (b *Builder) Add(rec Record) bool {
	if len(b.leaves)+len(b.sites)+len(b.failed) >= maxSites || len(b.types) >= maxTypes {
		return false
	}
	b.records++
	a := b.r.resolve(rec.Stack)
	reason := a.reason
	if reason == "" && !a.fits(rec.Size) {
		reason = whySize
	}
	if reason != "" {
		b.failed[rec.Leaf] = reason
		return true
	}
	s := Site{Address: Address(rec.Leaf), Form: a.form, Confidence: a.confidence}
	if a.callers > 0 {
		if a.callers > len(rec.Above) {
			b.failed[rec.Leaf] = whyOperand
			return true
		}
		for _, c := range rec.Above[:a.callers] {
			s.Callers = append(s.Callers, Address(c))
		}
	}
	b.put(s, a, rec.Function)
	return true
}

func (b *Builder) put(s Site, a *answer, function string) {
	var at *built
	key := ""
	if len(s.Callers) == 0 {
		at = b.leaves[uint64(s.Address)]
	} else {
		key = siteKey(s)
		at = b.sites[key]
	}
	if at != nil && at.site.Form == s.Form && at.site.Confidence == s.Confidence && b.types[at.site.Type].Name == a.name(function) {
		return // once more the same
	}
	s.Type = b.place(a, function)
	switch {
	case at != nil:
		at.ambiguous = at.ambiguous || at.site.Type != s.Type || at.site.Form != s.Form
	case key == "":
		b.leaves[uint64(s.Address)] = &built{site: s}
	default:
		b.sites[key] = &built{site: s}
	}
}

func siteKey(s Site) string {
	k := make([]byte, 0, 64)
	for _, a := range append([]Address{s.Address}, s.Callers...) {
		t, _ := a.MarshalText()
		k = append(append(k, t...), ' ')
	}
	return string(k)
}

// Table returns what was found. The caller fills in what it is of.
func (b *Builder) Table() Table {
	t := Table{Schema: Schema, Records: b.records, Sites: []Site{}, Types: b.types, Unresolved: []Unresolved{}, Losses: []string{}}
	why := map[string]int{}
	add := func(s *built) {
		if s.ambiguous {
			why[whySeveral]++
		} else {
			t.Sites = append(t.Sites, s.site)
		}
	}
	for _, s := range b.leaves {
		add(s)
	}
	for _, s := range b.sites {
		add(s)
	}
	for _, reason := range b.failed {
		why[reason]++
	}
	slices.SortFunc(t.Sites, func(x, y Site) int {
		return cmp.Or(cmp.Compare(x.Address, y.Address), slices.Compare(x.Callers, y.Callers))
	})
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

// fits compares the size of the objects with that of the type, where one object
// is one value. Size classes waste up to a quarter of the smallest objects and
// less of larger ones, add a word to those with pointers above 512 bytes, and are
// whole pages above 32 KiB.
func (a *answer) fits(size int64) bool {
	if size <= 0 || a.typ == nil {
		return true
	}
	const word, page, large = 8, 8192, 32 << 10
	switch a.form {
	case FormNew, FormInterface, FormClosure:
		slack := a.typ.size/4 + 2*word
		if a.typ.size > large-word {
			slack = page + word
		}
		return size >= a.typ.size && size <= a.typ.size+slack
	case FormSlice:
		return size >= a.typ.size
	}
	return true
}

// name is the type's in the table.
func (a *answer) name(function string) string {
	switch {
	case a.form == FormClosure && function != "":
		return "closure in " + function
	case a.typ == nil:
		return a.implied.name
	case a.typ.shape:
		return readable(a.typ.name)
	}
	return a.typ.name
}

// place returns the place of an answer's type in the table, where it is added if
// it is new.
func (b *Builder) place(a *answer, function string) int {
	if a.typ == nil {
		return b.implied(a.implied)
	}
	if a.form == FormClosure && function != "" {
		return b.describe(a.typ, a.name(function), true)
	}
	return b.describe(a.typ, a.name(""), true)
}

func (b *Builder) implied(t impliedType) int {
	k := placeKey{t.name, t.size}
	if i, ok := b.places[k]; ok {
		return i
	}
	b.places[k] = len(b.types)
	b.types = append(b.types, Type{Name: t.name, Kind: t.kind, Size: t.size})
	return len(b.types) - 1
}

// describe adds a type and, if it is wanted whole, what a value of it holds: the
// types within it whole as well, those that it points to by name.
func (b *Builder) describe(d *descriptor, name string, whole bool) int {
	k := placeKey{name, d.size}
	i, ok := b.places[k]
	if !ok {
		i = len(b.types)
		b.places[k] = i
		b.types = append(b.types, Type{Name: name, Kind: d.kind.String(), Size: d.size, Shape: d.shape})
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
