package inflate

import "math/bits"

// The alphabets of RFC 1951, 3.2.5 and 3.2.7.
const (
	maxLitLen   = 286
	maxDistance = 30
	maxCode     = 15 // bits
)

// The tables are looked up with so many bits; longer codes have a second table
// behind the first. As many entries as any set of lengths can need are 2,342 and
// 402; the sizes are powers of two so that the remainder is an and.
const (
	litBits  = 11
	litSize  = 4096
	distBits = 8
	distSize = 512
)

// entry is what the next bits of the input mean; 0 is nothing, and what is neither
// a literal nor flagged is the end of the block. How many bits to go on by stands
// where it takes the least time to get at.
//
//	bits 0–5    literals: how many bits they take, lengths: 0; distances: likewise, with
//	            the bits that follow the code
//	bits 8–13   lengths and the end: how many bits they take; distances: the code
//	            alone; links: how many more bits of the code to look at
//	bits 14–15  what it is
//	bits 16–31  the literal, the least distance, or where the table is; lengths: the
//	            least in nine bits, and from bit 25 how many bits the code alone takes
type entry uint32

const (
	isMatch entry = 1 << 14 // a length, or a distance
	isLink  entry = 1 << 15
)

// fixed sets the tables of blocks that bring none.
func (f *Inflater) fixed() {
	var lengths [288]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	build(f.lit[:], litBits, lengths[:], litEntry)
	for i := range 32 {
		lengths[i] = 5
	}
	build(f.dist[:], distBits, lengths[:32], distEntry)
}

// dynamic reads a block's tables.
func (f *Inflater) dynamic() error {
	f.refill()
	lit, dist, codes := f.take(5)+257, f.take(5)+1, f.take(4)+4
	if lit > maxLitLen || dist > maxDistance {
		return ErrCorrupt
	}
	order := [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	var lengths [19]uint8
	for _, code := range order[:codes] {
		f.refill()
		lengths[code] = uint8(f.take(3))
	}
	const codeBits = 7
	var table [1 << codeBits]entry
	if !build(table[:], codeBits, lengths[:], func(symbol int, n entry) entry { return isMatch | n<<8 | entry(symbol)<<16 }) {
		return ErrCorrupt
	}
	all := f.lengths[:lit+dist]
	for i := 0; i < len(all); {
		f.refill()
		e := table[f.bits&(1<<codeBits-1)]
		if e == 0 || f.cut() {
			return ErrCorrupt
		}
		f.take(uint(e >> 8 & 63))
		length, times := uint8(0), 1
		switch symbol := e >> 16; symbol {
		case 16:
			if i == 0 {
				return ErrCorrupt
			}
			length, times = all[i-1], int(3+f.take(2))
		case 17:
			times = int(3 + f.take(3))
		case 18:
			times = int(11 + f.take(7))
		default:
			length = uint8(symbol)
		}
		if times > len(all)-i {
			return ErrCorrupt
		}
		for range times {
			all[i] = length
			i++
		}
	}
	if !build(f.lit[:], litBits, all[:lit], litEntry) || !build(f.dist[:], distBits, all[lit:], distEntry) {
		return ErrCorrupt
	}
	return nil
}

// litEntry is the entry of a literal or length whose code has n bits.
func litEntry(symbol int, n entry) entry {
	switch {
	case symbol < 256:
		return n | entry(symbol)<<16
	case symbol == 256:
		return n << 8
	case symbol < 265:
		return isMatch | n<<8 | entry(symbol-254)<<16 | n<<25
	case symbol < 285:
		extra := entry(symbol-261) / 4
		return isMatch | (n+extra)<<8 | (3+(4+entry(symbol-265)%4)<<extra)<<16 | n<<25
	case symbol == 285:
		return isMatch | n<<8 | 258<<16 | n<<25
	}
	return 0 // only in the fixed table, where no one uses it
}

// distEntry is that of a distance.
func distEntry(symbol int, n entry) entry {
	switch {
	case symbol < 4:
		return isMatch | n | n<<8 | entry(symbol+1)<<16
	case symbol < maxDistance:
		extra := entry(symbol-2) / 2
		return isMatch | (n + extra) | n<<8 | (1+(2+entry(symbol)%2)<<extra)<<16
	}
	return 0
}

// build fills a table of root bits, and those behind it, from the lengths of the
// symbols' codes. It is false if the lengths leave codes over or use them twice; a
// single code of one bit, or none, is allowed, and what has no code is no entry.
func build(table []entry, root uint, lengths []uint8, of func(symbol int, n entry) entry) bool {
	var count, next [maxCode + 1]int
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	code, longest := 0, 0
	for n := 1; n <= maxCode; n++ {
		code <<= 1
		next[n] = code
		if code += count[n]; count[n] > 0 {
			longest = n
		}
	}
	if code != 1<<maxCode && longest > 0 && (longest != 1 || count[1] != 1) {
		return false
	}
	clear(table[:1<<root])
	linked(table, root, lengths, next)
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		code := reversed(&next, n)
		e := of(symbol, entry(n))
		to, step := table[:1<<root], uint(n)
		if step > root {
			link := table[code&(1<<root-1)]
			to, step, code = table[link>>16:][:1<<(link>>8&15)], step-root, code>>root
		}
		for ; code < len(to); code += 1 << step {
			to[code] = e
		}
	}
	return true
}

// linked makes the second tables, each as large as the longest of its codes asks
// for.
func linked(table []entry, root uint, lengths []uint8, next [maxCode + 1]int) {
	first := next
	for _, n := range lengths {
		if uint(n) > root {
			link := &table[reversed(&next, n)&(1<<root-1)]
			*link = max(*link, isLink|entry(uint(n)-root)<<8)
		}
	}
	end := 1 << root
	for _, n := range lengths {
		if uint(n) > root {
			if link := &table[reversed(&first, n)&(1<<root-1)]; *link>>16 == 0 {
				*link |= entry(end) << 16
				end += 1 << (*link >> 8 & 15)
			}
		}
	}
}

// reversed returns the next code of n bits as it stands in the input, where a code
// begins with its highest bit.
func reversed(next *[maxCode + 1]int, n uint8) int {
	code := next[n]
	next[n]++
	return int(bits.Reverse16(uint16(code)) >> (16 - n))
}
