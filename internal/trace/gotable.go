package trace

import (
	"math/bits"
	"math/rand/v2"
)

// goTable finds the slots of goroutines by their ids: open addressing, the keys
// being in the slots. The multiplier is random, so that no trace can be written to
// make it slow.
type goTable struct {
	slots []int32 // index + 1; 0 = free
	n     int
	shift uint
	mul   uint64
}

func (t *goTable) reset() {
	if t.slots == nil {
		t.mul = rand.Uint64() | 1
		t.grow(1<<10, nil)
	}
	clear(t.slots)
	t.n = 0
}

func (t *goTable) grow(size int, gs []goSlot) {
	old := t.slots
	t.slots = make([]int32, size)
	t.shift = uint(64 - bits.TrailingZeros(uint(size)))
	for _, s := range old {
		if s != 0 {
			t.slots[t.place(gs[s-1].id, gs)] = s
		}
	}
}

// place is where an id is, or where it would be.
func (t *goTable) place(id GoID, gs []goSlot) uint64 {
	mask := uint64(len(t.slots) - 1)
	i := uint64(id) * t.mul >> t.shift
	for {
		s := t.slots[i&mask]
		if s == 0 || gs[s-1].id == id {
			return i & mask
		}
		i++
	}
}

// get returns the slot's index, -1 if the id has none.
func (t *goTable) get(id GoID, gs []goSlot) int32 { return t.slots[t.place(id, gs)] - 1 }

func (t *goTable) put(id GoID, i int32, gs []goSlot) {
	if t.n++; 2*t.n > len(t.slots) {
		t.grow(4*len(t.slots), gs)
	}
	t.slots[t.place(id, gs)] = i + 1
}

func (t *goTable) remove(id GoID, gs []goSlot) {
	mask := uint64(len(t.slots) - 1)
	i := t.place(id, gs)
	if t.slots[i] == 0 {
		return
	}
	t.n--
	// Close the gap with what would have been here or before.
	for j := i; ; {
		j = (j + 1) & mask
		s := t.slots[j]
		if s == 0 {
			break
		}
		home := uint64(gs[s-1].id) * t.mul >> t.shift
		if (j-home)&mask >= (j-i)&mask {
			t.slots[i] = s
			i = j
		}
	}
	t.slots[i] = 0
}
