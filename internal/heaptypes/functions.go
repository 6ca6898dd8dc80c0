package heaptypes

import (
	"bytes"
	"encoding/binary"
	"sort"

	"github.com/opscenter/opscenter/internal/ops"
)

// functions is the table by which the runtime names functions (pclntab), as it
// is since Go 1.20. Inlined functions are not in it as such: what is found is the
// outermost.
type functions struct {
	names []byte
	table []byte // pairs of offsets: of code, of a function's description in table
	n     int
}

const pclntabMagic = 0xfffffff1

func readFunctions(tab []byte) (f functions, err error) {
	le := binary.LittleEndian
	if len(tab) < 72 || le.Uint32(tab) != pclntabMagic || tab[7] != 8 {
		return f, ops.Errorf(ops.Invalid, "the executable is not of Go 1.20 to 1.27: types cannot be read from it")
	}
	n, names, table := le.Uint64(tab[8:]), le.Uint64(tab[32:]), le.Uint64(tab[64:])
	size := uint64(len(tab))
	if names > size || table > size || n > (size-table)/8 {
		return f, damaged("its table of functions is cut")
	}
	return functions{names: tab[names:], table: tab[table:], n: int(n)}, nil
}

// find returns the function that an offset of code is in, where it begins and
// ends, or no name.
func (f *functions) find(off uint64) (from, to uint64, name []byte) {
	le := binary.LittleEndian
	if off > 1<<32-1 || f.n == 0 {
		return 0, 0, nil
	}
	entry := func(i int) uint32 { return le.Uint32(f.table[8*i:]) }
	i := sort.Search(f.n, func(i int) bool { return uint64(entry(i)) > off }) - 1
	if i < 0 {
		return 0, 0, nil
	}
	// The end of the last function follows the pairs.
	to = uint64(entry(i)) + 1<<20
	if 8*(i+1)+4 <= len(f.table) {
		to = uint64(entry(i + 1))
	}
	at := uint64(le.Uint32(f.table[8*i+4:]))
	if off >= to || at+8 > uint64(len(f.table)) {
		return 0, 0, nil
	}
	start := uint64(le.Uint32(f.table[at+4:]))
	if start >= uint64(len(f.names)) {
		return 0, 0, nil
	}
	b := f.names[start:]
	end := bytes.IndexByte(b[:min(len(b), maxName)], 0)
	if end <= 0 {
		return 0, 0, nil
	}
	return uint64(entry(i)), to, b[:end]
}
