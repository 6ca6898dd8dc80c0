package heaptypes

import (
	"cmp"
	"math"
	"slices"

	guest "github.com/opscenter/opscenter/agent/heaptypes"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// Heap is a heap profile by type.
type Heap struct {
	// Types has the most live bytes first.
	Types []LiveType
	// Untyped is what no type is known of, by site.
	Untyped LiveType
	// Total is all there is, typed or not; it has no sites.
	Total Amount
}

// TypedShare is the share of the live bytes whose type is known, 0 to 1.
func (h *Heap) TypedShare() float64 {
	if h.Total.Bytes == 0 {
		return 0
	}
	return float64(h.Total.Bytes-h.Untyped.Bytes) / float64(h.Total.Bytes)
}

// Amount is how much there is of something, by estimate from the profile's
// samples.
type Amount struct {
	// Objects and Bytes are what is live, AllocObjects and AllocBytes what was
	// ever allocated.
	Objects, Bytes           int64
	AllocObjects, AllocBytes int64
	// Samples is how many live objects the profile has really seen.
	Samples int64
	// Error is the relative standard error of Objects, BytesError that of Bytes:
	// 0.1 means that two of three such estimates are within 10 % of the truth. It
	// is 1/√Samples for objects far smaller than the profile's rate, and less for
	// large ones, of which each is seen. 0 if there is nothing live.
	Error, BytesError float64

	// Both estimates before the profile rounded them, and their variances.
	objects, bytes, objectsVar, bytesVar float64
}

// LiveType is the objects of one type.
type LiveType struct {
	// Name is how the type reads in Go: "session.Session" with its import path,
	// "[]T" for the arrays behind slices of T, "map[K]V" for parts of such maps.
	Name string
	// Form tells an array behind a slice ("slice") from a slice's header on the
	// heap ("new"). Values in interfaces count as "new".
	Form guest.Form
	// Type is a place in Table.Types: of the element if Form is "slice", else of
	// the type itself.
	Type int
	// Size is that of one value of the type, of one element if Form is "slice".
	Size int64
	// Shape is set if the type is generic and not all of its arguments are known.
	Shape bool
	Amount
	// Sites have the most live bytes first.
	Sites []LiveSite
	// HeldBy are the live types that can refer to this one, with the most bytes
	// first: who keeps the objects alive, as far as types tell.
	HeldBy []Holder
}

// LiveSite is where objects are allocated.
type LiveSite struct {
	Address  uint64
	Location profile.LocID
	// Function, File and Line are the innermost there, empty in a profile without
	// symbols.
	Function, File string
	Line           int64
	Form           guest.Form
	Confidence     guest.Confidence
	Amount
	// Stacks are samples of the profile, with the most live bytes first.
	Stacks []int
}

// Holder is a live type whose values can refer to another's.
type Holder struct {
	// Type is a place in Heap.Types.
	Type int
	// By says how: "key" and "element" of a map, "element" of a slice, array or
	// channel, "field" of a struct.
	By string
}

// Join says what types the objects of a heap profile have. The profile must be
// of the process that the table is of: Conflict if it is of another build or was
// mapped elsewhere. Invalid if it is no heap profile.
func (t *Table) Join(p *profile.Profile) (*Heap, error) {
	j := joiner{table: t, p: p, types: map[typeKey]*LiveType{}, sites: map[siteKey]*LiveSite{}}
	if err := j.columns(); err != nil {
		return nil, err
	}
	if err := t.sameProcess(p); err != nil {
		return nil, err
	}
	for i := range p.Samples() {
		j.add(i)
	}
	return j.heap(), nil
}

// sameProcess compares the table's build and place with the profile's main file.
func (t *Table) sameProcess(p *profile.Profile) error {
	for _, m := range p.Mappings {
		if uint64(t.TextStart) < m.Start || uint64(t.TextStart) >= m.Limit {
			continue
		}
		id := p.Strings[m.BuildID]
		if id != "" && t.Build.BuildID != "" && id != t.Build.BuildID {
			return ops.Errorf(ops.Conflict, "the heap profile is of build %.40s and the heap types are of build %.40s: use two files of one capture", id, t.Build.BuildID)
		}
		return nil
	}
	if len(p.Mappings) == 0 || t.TextStart == 0 {
		return nil // neither says where it was mapped
	}
	return ops.Errorf(ops.Conflict, "the heap profile is of a process that had its code elsewhere than %#x, where the heap types had it: use two files of one capture", uint64(t.TextStart))
}

// typeKey tells types apart. Closures of one function, and shapes whose names are
// shortened, may be called the same and are not.
type typeKey struct {
	name string
	form guest.Form
	size int64
}

type siteKey struct {
	of  *LiveType
	loc profile.LocID
}

type joiner struct {
	table *Table
	p     *profile.Profile
	// The columns of the profile.
	liveObjects, liveBytes, allocObjects, allocBytes []int64
	types                                            map[typeKey]*LiveType
	sites                                            map[siteKey]*LiveSite
	untyped                                          LiveType
	total                                            Amount
}

func (j *joiner) columns() error {
	for name, into := range map[string]*[]int64{
		"inuse_objects": &j.liveObjects, "inuse_space": &j.liveBytes, "alloc_objects": &j.allocObjects, "alloc_space": &j.allocBytes,
	} {
		for i, vt := range j.p.Types {
			if vt.Type == name {
				*into = j.p.Values[i]
			}
		}
		if *into == nil && j.p.Samples() > 0 {
			return ops.Errorf(ops.Invalid, "this is no heap profile of a Go program: it has no %s; use heap.pprof", name)
		}
	}
	return nil
}

func (j *joiner) add(i int) {
	stack := j.p.Stack(i)
	if len(stack) == 0 {
		return
	}
	amount := j.amount(i)
	j.total.add(amount)
	of, form, confidence := &j.untyped, guest.Form(""), guest.Confidence("")
	if n := j.table.site(j.p, stack); n >= 0 {
		s := &j.table.Sites[n]
		// What the runtime allocates on its way has the same leaf and another size.
		if guest.Fits(s.Form, j.table.Types[s.Type].Size, size(j.p, i)) {
			form, confidence = s.Form, s.Confidence
			of = j.typeOf(s)
		}
	}
	of.add(amount)
	k := siteKey{of, stack[0]}
	site := j.sites[k]
	if site == nil {
		loc := j.p.Locations[stack[0]]
		site = &LiveSite{Address: loc.Address, Location: stack[0], Form: form, Confidence: confidence}
		if loc.From < loc.To {
			line := j.p.Lines[loc.From]
			f := j.p.Functions[line.Function]
			site.Function, site.File, site.Line = j.p.Strings[f.Name], j.p.Strings[f.File], line.Line
		}
		j.sites[k] = site
	}
	site.add(amount)
	site.Stacks = append(site.Stacks, i)
}

func (j *joiner) typeOf(s *guest.Site) *LiveType {
	t := &j.table.Types[s.Type]
	k := typeKey{t.Name, s.Form, t.Size}
	switch s.Form {
	case guest.FormSlice:
		k.name = "[]" + t.Name
	case guest.FormInterface:
		k.form = guest.FormNew
	}
	of := j.types[k]
	if of == nil {
		of = &LiveType{Name: k.name, Form: k.form, Type: s.Type, Size: t.Size, Shape: t.Shape}
		j.types[k] = of
	}
	return of
}

// site finds the table's entry for a stack, or -1. Entries that ask for callers
// come first.
func (t *Table) site(p *profile.Profile, stack []profile.LocID) int {
	for _, i := range t.byAddress[guest.Address(p.Locations[stack[0]].Address)] {
		callers := t.Sites[i].Callers
		if len(callers) > len(stack)-1 {
			continue
		}
		same := true
		for n, c := range callers {
			same = same && guest.Address(p.Locations[stack[n+1]].Address) == c
		}
		if same {
			return i
		}
	}
	return -1
}

// amount is what sample i stands for. The profile's numbers are estimates: an
// object of size s was seen with probability 1−e^(−s/rate), and each one seen
// was counted as the inverse of that many.
func (j *joiner) amount(i int) Amount {
	a := Amount{Objects: j.liveObjects[i], Bytes: j.liveBytes[i], AllocObjects: j.allocObjects[i], AllocBytes: j.allocBytes[i]}
	if a.Objects <= 0 {
		return a
	}
	size := float64(a.Bytes) / float64(a.Objects)
	for _, l := range j.p.Labels(i) {
		if l.Numeric && j.p.Strings[l.Key] == "bytes" && l.Number > 0 {
			size = float64(l.Number)
		}
	}
	seen := 1.0 // the probability
	if rate := float64(j.p.Period); rate > 1 && size > 0 {
		seen = -math.Expm1(-size / rate)
	}
	samples := max(math.Round(float64(a.Objects)*seen), 1)
	a.Samples = int64(samples)
	a.objects, a.objectsVar = samples/seen, samples*(1-seen)/(seen*seen)
	a.bytes, a.bytesVar = a.objects*size, a.objectsVar*size*size
	return a
}

func (a *Amount) add(b Amount) {
	a.Objects += b.Objects
	a.Bytes += b.Bytes
	a.AllocObjects += b.AllocObjects
	a.AllocBytes += b.AllocBytes
	a.Samples += b.Samples
	a.objects += b.objects
	a.bytes += b.bytes
	a.objectsVar += b.objectsVar
	a.bytesVar += b.bytesVar
	if a.objects > 0 && a.bytes > 0 {
		a.Error, a.BytesError = math.Sqrt(a.objectsVar)/a.objects, math.Sqrt(a.bytesVar)/a.bytes
	}
}

func (j *joiner) heap() *Heap {
	for k, s := range j.sites {
		slices.SortFunc(s.Stacks, func(a, b int) int {
			return cmp.Or(cmp.Compare(j.liveBytes[b], j.liveBytes[a]), cmp.Compare(a, b))
		})
		k.of.Sites = append(k.of.Sites, *s)
	}
	h := &Heap{Untyped: j.untyped, Total: j.total}
	sortSites(h.Untyped.Sites)
	for _, t := range j.types {
		sortSites(t.Sites)
		h.Types = append(h.Types, *t)
	}
	slices.SortFunc(h.Types, func(a, b LiveType) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.AllocBytes, a.AllocBytes), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Form, b.Form))
	})
	j.table.holders(h)
	return h
}

func sortSites(s []LiveSite) {
	slices.SortFunc(s, func(a, b LiveSite) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.AllocBytes, a.AllocBytes), cmp.Compare(a.Address, b.Address))
	})
}
