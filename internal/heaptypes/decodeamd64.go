package heaptypes

import "golang.org/x/arch/x86/x86asm"

// decodeAMD64 reduces instructions to what moves addresses. Bytes that it cannot
// read are taken one by one until it can again.
func decodeAMD64(code []byte, pc uint64) []instruction {
	out := make([]instruction, 0, len(code)/4)
	for len(code) > 0 {
		in := instruction{pc: pc, to: noRegister, from: noRegister, also: noRegister}
		x, err := x86asm.Decode(code, 64)
		n := x.Len
		switch {
		case err == nil && n > 0:
			liftAMD64(x, &in)
		default:
			// AVX, which the disassembler does not know, has no part in this.
			n = max(vexLength(code), 1)
		}
		in.len = uint8(n)
		out = append(out, in)
		code, pc = code[n:], pc+uint64(n)
	}
	return out
}

// liftAMD64 fills in one instruction.
func liftAMD64(x x86asm.Inst, in *instruction) {
	next := in.pc + uint64(x.Len)
	to, isReg := registerAMD64(x.Args[0])
	if rel, ok := x.Args[0].(x86asm.Rel); ok {
		in.value = next + uint64(int64(rel))
		switch x.Op {
		case x86asm.CALL:
			in.op = call
		case x86asm.JMP:
			in.op = jump
		default:
			in.op = branch
		}
		return
	}
	switch x.Op {
	case x86asm.CALL:
		in.op = call
	case x86asm.JMP, x86asm.RET, x86asm.UD2:
		in.op = jump
	case x86asm.LEA:
		in.to = to
		if m, ok := x.Args[1].(x86asm.Mem); ok && m.Index == 0 && isReg {
			if m.Base == x86asm.RIP {
				in.op, in.value = constant, next+uint64(m.Disp)
			} else if base, ok := registerAMD64(m.Base); ok {
				in.op, in.from, in.value = add, base, uint64(m.Disp)
			}
		}
	case x86asm.MOV:
		liftMove(x, in, next)
	case x86asm.XOR:
		in.to = to
		if from, ok := registerAMD64(x.Args[1]); ok && isReg && from == to {
			in.op, in.value = constant, 0
		}
	case x86asm.XCHG:
		in.to = to
		in.also, _ = registerAMD64(x.Args[1])
	case x86asm.MUL, x86asm.DIV, x86asm.IDIV, x86asm.CQO, x86asm.CDQ:
		in.to, in.also = 0, 2
	case x86asm.CMP, x86asm.TEST, x86asm.NOP, x86asm.PUSH:
	default:
		if isReg {
			in.to = to
		}
		if x.Op == x86asm.IMUL && x.Args[1] == nil {
			in.to, in.also = 0, 2
		}
	}
}

// liftMove is for the many forms of MOV.
func liftMove(x x86asm.Inst, in *instruction, next uint64) {
	to, toReg := registerAMD64(x.Args[0])
	from, fromReg := registerAMD64(x.Args[1])
	whole := x.DataSize == 64
	if m, ok := x.Args[0].(x86asm.Mem); ok {
		if base, ok := registerAMD64(m.Base); ok && fromReg && m.Index == 0 && whole {
			in.op, in.to, in.from, in.value = store, base, from, uint64(m.Disp)
		}
		return
	}
	if !toReg {
		return
	}
	in.to = to
	switch m := x.Args[1].(type) {
	case x86asm.Mem:
		if !whole || m.Index != 0 {
			return
		}
		if m.Base == x86asm.RIP {
			in.op, in.value = loadAt, next+uint64(m.Disp)
		} else if base, ok := registerAMD64(m.Base); ok {
			in.op, in.from, in.value = load, base, uint64(m.Disp)
		}
	default:
		if fromReg && whole {
			in.op, in.from = move, from
		}
	}
}

// registerAMD64 returns the number of a general register of any width.
func registerAMD64(a x86asm.Arg) (register, bool) {
	r, ok := a.(x86asm.Reg)
	switch {
	case !ok:
	case r >= x86asm.RAX && r <= x86asm.R15:
		return register(r - x86asm.RAX), true
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return register(r - x86asm.EAX), true
	case r >= x86asm.AX && r <= x86asm.R15W:
		return register(r - x86asm.AX), true
	case r >= x86asm.AL && r <= x86asm.BL:
		return register(r - x86asm.AL), true
	case r >= x86asm.SPB && r <= x86asm.R15B:
		return register(r-x86asm.SPB) + 4, true
	}
	return noRegister, false
}

// vexLength is the length of an AVX instruction; 0 if it is none. See the
// manual's chapter on instruction format: prefix, opcode, ModRM, SIB,
// displacement, immediate.
func vexLength(b []byte) int {
	if len(b) < 5 {
		return 0
	}
	space, at := byte(1), 0
	switch b[0] {
	case 0xc5:
		at = 2
	case 0xc4:
		space, at = b[1]&31, 3
	case 0x62:
		space, at = b[1]&7, 4
	default:
		return 0
	}
	op := b[at]
	at++
	if space == 1 && op == 0x77 { // VZEROUPPER is complete
		return at
	}
	if at >= len(b) {
		return 0
	}
	mode, low := b[at]>>6, b[at]&7
	at++
	if mode != 3 && low == 4 {
		if at >= len(b) {
			return 0
		}
		if mode == 0 && b[at]&7 == 5 {
			at += 4
		}
		at++
	}
	switch {
	case mode == 1:
		at++
	case mode == 2, mode == 0 && low == 5:
		at += 4
	}
	if space == 3 || space == 1 && (op >= 0x70 && op <= 0x73 || op == 0xc2 || op >= 0xc4 && op <= 0xc6) {
		at++
	}
	if at > len(b) {
		return 0
	}
	return at
}
