package heaptypes

// EachCall yields the return address of every call in the program, with the name
// of the function that it is in.
func (b *Binary) EachCall(yield func(function string, ret uint64)) {
	f := newFlow(b)
	for off := uint64(0); off < 1<<32-1; {
		from, to, name := b.funcs.find(off)
		if len(name) == 0 {
			return
		}
		for _, in := range f.function(b.text + from + 1).code {
			if in.op == call {
				yield(string(name), in.pc+uint64(in.len))
			}
		}
		off = to
	}
}

// Operand is what the flow alone says about a call.
func (b *Binary) Operand() func(stack []uint64, argument int) (uint64, int, bool) {
	return newFlow(b).operand
}
