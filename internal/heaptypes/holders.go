package heaptypes

import (
	"slices"

	guest "github.com/opscenter/opscenter/agent/heaptypes"
)

// maxHolders is how many holders one type lists.
const maxHolders = 20

// holders fills in who can refer to whom. Types with the most bytes come first,
// so the holders of each do as well.
func (t *Table) holders(h *Heap) {
	at := map[string][]int{} // by name
	for i, l := range h.Types {
		at[l.Name] = append(at[l.Name], i)
	}
	for i, l := range h.Types {
		if l.Bytes <= 0 {
			continue
		}
		for _, ref := range t.references(l) {
			for _, held := range at[t.Types[ref.to].Name] {
				by := &h.Types[held].HeldBy
				if held != i && (h.Types[held].Form == guest.FormNew) == ref.value && len(*by) < maxHolders && !slices.ContainsFunc(*by, func(o Holder) bool { return o.Type == i }) {
					*by = append(*by, Holder{Type: i, By: ref.by})
				}
			}
		}
	}
}

type reference struct {
	to int
	by string
	// value is set for what a pointer points to, and not for the array behind a
	// slice, or a map or channel.
	value bool
}

// references lists what an object of the type can point to: through pointers,
// and through structs and arrays that lie within it.
func (t *Table) references(l LiveType) (out []reference) {
	typ := t.Types[l.Type]
	within := func(i *int, by string) {
		if i != nil {
			out = t.pointers(out, *i, by, 0)
		}
	}
	switch l.Form {
	case guest.FormSlice:
		within(&l.Type, "element")
	case guest.FormMap:
		within(typ.Elem, "element")
		within(typ.Key, "key")
	case guest.FormChan:
		within(typ.Elem, "element")
	case guest.FormNew, guest.FormClosure:
		out = t.pointers(out, l.Type, "field", 0)
	}
	return out
}

// maxNesting is how deep values lie within one another that are looked through.
const maxNesting = 4

// pointers adds what a value of type i points to.
func (t *Table) pointers(out []reference, i int, by string, depth int) []reference {
	typ := t.Types[i]
	if depth > maxNesting || len(out) >= maxFields {
		return out
	}
	switch typ.Kind {
	case "ptr":
		if typ.Elem != nil {
			out = append(out, reference{*typ.Elem, by, true})
		}
	case "slice", "map", "chan":
		out = append(out, reference{i, by, false})
	case "array":
		if typ.Elem != nil {
			out = t.pointers(out, *typ.Elem, "element", depth+1)
		}
	case "struct":
		for _, f := range typ.Fields {
			out = t.pointers(out, f, by, depth+1)
		}
	}
	return out
}
