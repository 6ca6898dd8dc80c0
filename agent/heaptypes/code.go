package heaptypes

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// lookBack is how much of the code before a call is searched for the operand.
// The compiler loads it last or nearly so: over 360,000 calls of six programs
// the load lay further away in fewer than three of a thousand.
const lookBack = 64

// architecture is what reading calls and loads takes.
type architecture struct {
	// callLen is the length of a direct call.
	callLen uint64
	// target returns where the call that ends at ret leads.
	target func(code []byte, ret uint64) (uint64, bool)
	// loads calls yield with what is loaded into the n-th argument's register,
	// from the last to the first load in code, which begins at base. It ends where
	// isCall says that a call intervenes, after which the register would hold
	// something else.
	loads func(code []byte, base uint64, n operand, isCall func(target uint64) bool, yield func(addr uint64) bool)
	// zeroes reports whether the end of code sets the n-th argument's register to
	// zero: no type at all, for data without pointers.
	zeroes func(code []byte, n operand) bool
}

func architectureOf(name string) *architecture {
	switch name {
	case "amd64":
		return &architecture{callLen: 5, target: targetAMD64, loads: loadsAMD64, zeroes: zeroesAMD64}
	case "arm64":
		return &architecture{callLen: 4, target: targetARM64, loads: loadsARM64, zeroes: zeroesARM64}
	}
	return nil
}

// registersAMD64 are the machine's numbers of AX, BX, CX, DI and SI, in the
// order of Go's calling convention.
var registersAMD64 = [...]byte{0, 3, 1, 7, 6}

// targetAMD64 decodes CALL rel32.
func targetAMD64(code []byte, ret uint64) (uint64, bool) {
	if len(code) != 5 || code[0] != 0xe8 {
		return 0, false
	}
	return ret + uint64(int64(int32(binary.LittleEndian.Uint32(code[1:])))), true
}

// loadsAMD64 finds LEAQ disp(RIP), register. Instructions have no fixed length,
// so any byte may begin one; what is found is checked by who asks.
func loadsAMD64(code []byte, base uint64, n operand, isCall func(uint64) bool, yield func(uint64) bool) {
	modrm := 0x05 | registersAMD64[n]<<3
	for i := len(code) - 5; i >= 0; i-- {
		at := base + uint64(i)
		switch code[i] {
		case 0xe8:
			if target, ok := targetAMD64(code[i:i+5], at+5); ok && isCall(target) {
				return
			}
		case 0x48:
			if i+7 > len(code) || code[i+1] != 0x8d || code[i+2] != modrm {
				continue
			}
			if !yield(at + 7 + uint64(int64(int32(binary.LittleEndian.Uint32(code[i+3:]))))) {
				return
			}
		}
	}
}

// targetARM64 decodes BL.
func targetARM64(code []byte, ret uint64) (uint64, bool) {
	if len(code) != 4 {
		return 0, false
	}
	w := binary.LittleEndian.Uint32(code)
	if w&0xfc000000 != 0x94000000 {
		return 0, false
	}
	return ret - 4 + uint64(int64(int32(w<<6)>>6)*4), true
}

// loadsARM64 finds ADRP, ADD into register; the two may lie apart.
func loadsARM64(code []byte, base uint64, n operand, isCall func(uint64) bool, yield func(uint64) bool) {
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(code[i:]) }
	for i := len(code)&^3 - 4; i >= 0; i -= 4 {
		at := base + uint64(i)
		if target, ok := targetARM64(code[i:i+4], at+4); ok && isCall(target) {
			return
		}
		add := word(i)
		if add&0xff800000 != 0x91000000 || add&31 != uint32(n) {
			continue
		}
		low := uint64(add >> 10 & 0xfff)
		if add>>22&1 == 1 {
			low <<= 12
		}
		from := add >> 5 & 31
		for k := i - 4; k >= 0; k -= 4 {
			adrp := word(k)
			if adrp&0x9f000000 != 0x90000000 || adrp&31 != from {
				continue
			}
			pages := int64(int32(adrp<<8)>>13)<<2 | int64(adrp>>29&3)
			if !yield(uint64(int64((base+uint64(k))&^0xfff)+pages<<12) + low) {
				return
			}
			break
		}
	}
}

// zeroBack is how far before a call a register is set to zero: at most the other
// two arguments are loaded in between.
const zeroBack = 16

// zeroesAMD64 finds XORL register, register.
func zeroesAMD64(code []byte, n operand) bool {
	r := registersAMD64[n]
	return bytes.Contains(code[max(len(code)-zeroBack, 0):], []byte{0x31, 0xc0 | r<<3 | r})
}

// zeroesARM64 finds MOVD ZR, register.
func zeroesARM64(code []byte, n operand) bool {
	for i := len(code)&^3 - 4; i >= max(len(code)-zeroBack, 0); i -= 4 {
		if binary.LittleEndian.Uint32(code[i:]) == 0xaa1f03e0|uint32(n) {
			return true
		}
	}
	return false
}

// isBarrier says that a function keeps all registers.
func isBarrier(name string) bool {
	return strings.HasPrefix(name, "gcWriteBarrier") || strings.HasPrefix(name, "runtime.gcWriteBarrier")
}
