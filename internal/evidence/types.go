package evidence

import (
	"slices"

	"github.com/opscenter/opscenter/internal/heaptypes"
)

// ofHeapTypes joins the heap at the window's end with what its sites allocate.
func ofHeapTypes(p *Profile, table *heaptypes.Table, frames *Frames) (*HeapTypes, error) {
	heap, err := table.Join(p.Source)
	if err != nil {
		return nil, err
	}
	byLoc := map[int]Stack{} // by sample of the profile
	stackOf := func(sample int) Stack {
		s, ok := byLoc[sample]
		if !ok {
			for _, loc := range p.Source.Stack(sample) {
				s = append(s, locationFrames(p.Source, &p.Source.Locations[loc], frames)...)
			}
			byLoc[sample] = s
		}
		return s
	}
	out := &HeapTypes{Bytes: heap.Total.Bytes, TypedBytes: heap.Total.Bytes - heap.Untyped.Bytes}
	for _, t := range heap.Types {
		to := HeapType{Name: t.Name, Form: string(t.Form), Objects: t.Objects, Bytes: t.Bytes, Samples: t.Samples}
		observed := true
		for _, s := range t.Sites {
			if len(s.Stacks) == 0 {
				continue
			}
			site := HeapSite{Stack: stackOf(s.Stacks[0]), Objects: s.Objects, Bytes: s.Bytes}
			observed = observed && site.Stack.Watched()
			to.Sites = append(to.Sites, site)
		}
		if observed && len(to.Sites) > 0 {
			continue // the observer's own objects
		}
		for _, h := range t.HeldBy {
			if name := heap.Types[h.Type].Name; !slices.Contains(to.Containers, name) {
				to.Containers = append(to.Containers, name)
			}
		}
		out.Types = append(out.Types, to)
	}
	return out, nil
}
