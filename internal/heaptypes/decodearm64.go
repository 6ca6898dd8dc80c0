package heaptypes

import "encoding/binary"

// signed returns bits of w, from the given one on, as a signed number.
func signed(w uint32, from, bits int) int64 {
	return int64(int32(w<<(32-from-bits)) >> (32 - bits))
}

// decodeARM64 knows the instructions that Go's compiler moves addresses with;
// what it does not know writes to the register that most have at their end.
func decodeARM64(code []byte, pc uint64) []instruction {
	out := make([]instruction, 0, len(code)/4)
	for ; len(code) >= 4; code, pc = code[4:], pc+4 {
		w := binary.LittleEndian.Uint32(code)
		in := instruction{pc: pc, len: 4, to: noRegister, from: noRegister, also: noRegister}
		pair := liftARM64(w, &in)
		if pair.op != other {
			pair.pc, pair.len, pair.also = pc, 0, noRegister
			out = append(out, pair)
		}
		out = append(out, in)
	}
	return out
}

// liftARM64 fills in one instruction; of those that load or store two registers
// it returns the second.
func liftARM64(w uint32, in *instruction) (pair instruction) {
	rd, rn, rt2 := register(w&31), register(w>>5&31), register(w>>10&31)
	relative := func(from, bits int) uint64 { return in.pc + uint64(signed(w, from, bits)*4) }
	switch {
	case w&0x1f000000 == 0x10000000: // ADR, ADRP
		n := signed(w, 5, 19)<<2 | int64(w>>29&3)
		in.op, in.to, in.value = constant, rd, in.pc+uint64(n)
		if w>>31 == 1 {
			in.value = in.pc&^0xfff + uint64(n<<12)
		}
	case w&0xbf800000 == 0x91000000: // ADD, SUB immediate
		n := uint64(w >> 10 & 0xfff)
		if w>>22&1 == 1 {
			n <<= 12
		}
		if w&0x40000000 != 0 {
			n = -n
		}
		in.op, in.to, in.from, in.value = add, rd, rn, n
	case w&0xffe0ffe0 == 0xaa0003e0: // MOV
		in.op, in.to, in.from = move, rd, register(w>>16&31)
		if in.from == 31 { // the zero register
			in.op, in.value = constant, 0
		}
	case w&0xffc00000 == 0xf9400000: // LDR, unsigned offset
		in.op, in.to, in.from, in.value = load, rd, rn, uint64(w>>10&0xfff)*8
	case w&0xffe00c00 == 0xf8400000: // LDUR
		in.op, in.to, in.from, in.value = load, rd, rn, uint64(signed(w, 12, 9))
	case w&0xffc00000 == 0xf9000000: // STR
		in.op, in.from, in.to, in.value = store, rd, rn, uint64(w>>10&0xfff)*8
	case w&0xffe00c00 == 0xf8000000: // STUR
		in.op, in.from, in.to, in.value = store, rd, rn, uint64(signed(w, 12, 9))
	case w&0xffc00000 == 0xa9400000: // LDP
		n := uint64(signed(w, 15, 7) * 8)
		in.op, in.to, in.from, in.value = load, rd, rn, n
		return instruction{op: load, to: rt2, from: rn, value: n + 8}
	case w&0xffc00000 == 0xa9000000: // STP
		n := uint64(signed(w, 15, 7) * 8)
		in.op, in.from, in.to, in.value = store, rd, rn, n
		return instruction{op: store, from: rt2, to: rn, value: n + 8}
	case w&0xfc000000 == 0x94000000: // BL
		in.op, in.value = call, relative(0, 26)
	case w&0xfffffc1f == 0xd63f0000: // BLR
		in.op = call
	case w&0xfc000000 == 0x14000000: // B
		in.op, in.value = jump, relative(0, 26)
	case w&0xfffffc1f == 0xd65f0000, w&0xfffffc1f == 0xd61f0000, w&0xffe0001f == 0xd4200000: // RET, BR, BRK
		in.op = jump
	case w&0xff000010 == 0x54000000, w&0x7e000000 == 0x34000000: // B.cond, CBZ, CBNZ
		in.op, in.value = branch, relative(5, 19)
	case w&0x7e000000 == 0x36000000: // TBZ, TBNZ
		in.op, in.value = branch, relative(5, 14)
	case w&0x0a000000 == 0x08000000 && w>>22&3 == 0, w>>25&7 == 7, w == 0xd503201f:
		// Other stores, floating point and NOP write no register of ours.
	default:
		in.to = rd
	}
	return instruction{}
}
