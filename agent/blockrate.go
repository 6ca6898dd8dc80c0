package agent

import (
	"encoding/binary"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"
)

// blockRate reads the runtime's block profile rate, which has a setter and no
// getter. The address is taken from the machine code of the setter: its last
// step is one atomic store of the rate. The code is only read, the address is
// only believed when exactly one such store is found and it leads into the
// program's writable data; in every other case the rate counts as unknown.
type blockRate struct {
	addr *uint64 // nil = unknown
}

func (b blockRate) known() bool { return b.addr != nil }

// ticks is the rate in CPU ticks, as the runtime keeps it: 0 = off, 1 = every
// event.
func (b blockRate) ticks() uint64 {
	if b.addr == nil {
		return 0
	}
	return atomic.LoadUint64(b.addr)
}

// restore sets the rate back to a number of ticks through the public setter,
// which takes nanoseconds.
func (b blockRate) restore(ticks uint64) {
	if ticks <= 1 || b.addr == nil {
		runtime.SetBlockProfileRate(int(min(ticks, 1)))
		return
	}
	const second = 1_000_000_000
	runtime.SetBlockProfileRate(second)
	perSecond := b.ticks() // a rate of one second, in ticks
	if perSecond <= 1 {
		runtime.SetBlockProfileRate(0)
		return
	}
	// The setter rounds down, so the program's own nanoseconds are at or just
	// above this.
	nanos := int(float64(ticks) * second / float64(perSecond))
	for n := max(nanos-1, 1); n <= nanos+3; n++ {
		runtime.SetBlockProfileRate(n)
		if b.ticks() >= ticks {
			return
		}
	}
}

// findBlockRate looks the address up; it never fails, it only may not know.
func findBlockRate() (found blockRate) {
	defer func() {
		if recover() != nil {
			found = blockRate{}
		}
	}()
	if runtime.GOOS != "linux" {
		return blockRate{} // no /proc/self/maps to check the address against
	}
	pc := reflect.ValueOf(runtime.SetBlockProfileRate).Pointer()
	code := functionCode(pc)
	var addr uint64
	var ok bool
	switch runtime.GOARCH {
	case "amd64":
		addr, ok = blockRateAMD64(code, uint64(pc))
	case "arm64":
		addr, ok = blockRateARM64(code, uint64(pc))
	}
	if !ok || addr%8 != 0 || !writableData(addr) {
		return blockRate{}
	}
	p := uintptr(addr)
	return blockRate{addr: *(**uint64)(unsafe.Pointer(&p))}
}

// functionCode returns the code of the function that begins at pc, as far as
// the symbol table says it reaches.
func functionCode(pc uintptr) []byte {
	f := runtime.FuncForPC(pc)
	if f == nil || f.Entry() != pc || f.Name() != "runtime.SetBlockProfileRate" {
		return nil
	}
	end := pc
	for end-pc < 1024 {
		if g := runtime.FuncForPC(end + 15); g == nil || g.Entry() != pc {
			break
		}
		end += 16
	}
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&pc)), int(end-pc))
}

// blockRateAMD64 finds "LEAQ disp(RIP), r; XCHGQ x, 0(r)".
func blockRateAMD64(code []byte, pc uint64) (addr uint64, ok bool) {
	for i := 0; i+10 <= len(code); i++ {
		lea, xchg := code[i:i+7], code[i+7:i+10]
		if lea[0]&0xfb != 0x48 || lea[1] != 0x8d || lea[2]&0xc7 != 0x05 {
			continue
		}
		r := lea[2]>>3&7 | lea[0]&4<<1
		if xchg[0]&0xfa != 0x48 || xchg[1] != 0x87 || xchg[2]&0xc0 != 0 {
			continue
		}
		base := xchg[2]&7 | xchg[0]&1<<3
		if base != r || base&7 == 4 || base&7 == 5 { // those two encode other forms
			continue
		}
		if ok {
			return 0, false // two stores: not the function we know
		}
		disp := int64(int32(binary.LittleEndian.Uint32(lea[3:])))
		addr, ok = uint64(int64(pc)+int64(i)+7+disp), true
	}
	return addr, ok
}

// blockRateARM64 finds "ADRP r; ADD $n, r, r; STLR x, (r)".
func blockRateARM64(code []byte, pc uint64) (addr uint64, ok bool) {
	for i := 0; i+12 <= len(code); i += 4 {
		adrp := binary.LittleEndian.Uint32(code[i:])
		add := binary.LittleEndian.Uint32(code[i+4:])
		stlr := binary.LittleEndian.Uint32(code[i+8:])
		r := adrp & 31
		if adrp&0x9f000000 != 0x90000000 || add&0xff800000 != 0x91000000 || stlr&0xfffffc00 != 0xc89ffc00 {
			continue
		}
		if add&31 != r || add>>5&31 != r || stlr>>5&31 != r {
			continue
		}
		if ok {
			return 0, false
		}
		pages := int64(int32((adrp>>5&0x7ffff<<2|adrp>>29&3)<<11)) >> 11 // 21 bits, signed
		imm := uint64(add >> 10 & 0xfff)
		if add>>22&1 == 1 {
			imm <<= 12
		}
		addr, ok = uint64(int64((pc+uint64(i))&^0xfff)+pages<<12)+imm, true
	}
	return addr, ok
}

// writableData reports whether addr lies in a private writable mapping.
func writableData(addr uint64) bool {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[1], "rw-p") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		lo, err1 := strconv.ParseUint(from, 16, 64)
		hi, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil && addr >= lo && addr+8 <= hi {
			return true
		}
	}
	return false
}
