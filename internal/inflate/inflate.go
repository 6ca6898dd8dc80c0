// Package inflate unpacks gzip files that are whole in memory, into memory, in half
// to two thirds of the time that a decompressor takes which reads a stream: it
// looks at eight bytes of input at a time, writes where the result stays, and has
// no window to copy from. It knows nothing of what the bytes mean.
package inflate

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

var (
	// ErrCorrupt says that the data are not as DEFLATE (RFC 1951) wants them.
	ErrCorrupt = errors.New("inflate: corrupt data")
	// ErrTooLarge says that the plain data are larger than they may be.
	ErrTooLarge = errors.New("inflate: the plain data pass the limit")
)

// Inflater unpacks one file after the other. The zero value is ready for use; it
// is 18 KB of tables, and not safe for concurrent use.
type Inflater struct {
	lengths [maxLitLen + maxDistance]uint8
	lit     [litSize]entry
	dist    [distSize]entry

	src []byte
	pos int
	// bits holds the next count bits of the input, from the lowest on.
	bits  uint64
	count uint
	// past is how many bytes behind the end of src were read as zeros.
	past int

	dst   []byte // all of it may be written to
	out   int    // how much of it was
	from  int    // where the member began: nothing before can be copied
	bound int
}

// roomy is what is always free behind the output when a symbol is decoded: the
// longest match, the literals that come before it and what whole words write too
// much.
const roomy = 320

// Gzip unpacks all members of a gzip file (RFC 1952) into dst's memory from its
// start, or into new memory where that is too small, and returns the result. It
// checks the sums. The error is ErrTooLarge if there are more than bound bytes,
// gzip.ErrHeader or gzip.ErrChecksum, ErrCorrupt, or io.ErrUnexpectedEOF if the
// file was cut. What it returns with an error is memory to be used again.
func (f *Inflater) Gzip(dst, src []byte, bound int64) ([]byte, error) {
	f.src, f.pos, f.dst, f.out = src, 0, dst[:cap(dst)], 0
	f.bound = int(min(max(bound, 0), 1<<46))
	err := f.expect()
	if err == nil {
		err = f.members()
	}
	out := f.dst[:f.out]
	f.src, f.dst = nil, nil
	return out, err
}

// expect makes room for what the file says that it holds, which is in its last four
// bytes, as far as ordinary data shrink.
func (f *Inflater) expect() error {
	if len(f.src) < 18 {
		return nil // no whole member
	}
	says := int(binary.LittleEndian.Uint32(f.src[len(f.src)-4:]))
	return f.room(min(says, len(f.src)*16, f.bound))
}

func (f *Inflater) members() error {
	for {
		if err := f.header(); err != nil {
			return err
		}
		f.from = f.out
		if err := f.deflated(); err != nil {
			return err
		}
		if len(f.src)-f.pos < 8 {
			return io.ErrUnexpectedEOF
		}
		plain, sums := f.dst[f.from:f.out], f.src[f.pos:]
		if crc32.ChecksumIEEE(plain) != binary.LittleEndian.Uint32(sums) || uint32(len(plain)) != binary.LittleEndian.Uint32(sums[4:]) {
			return gzip.ErrChecksum
		}
		if f.pos += 8; f.pos == len(f.src) {
			return nil
		}
	}
}

// header skips a member's header.
func (f *Inflater) header() error {
	const (
		headerSum = 1 << 1
		extra     = 1 << 2
		name      = 1 << 3
		comment   = 1 << 4
		reserved  = 7 << 5
	)
	b := f.src[f.pos:]
	if len(b) < 10 {
		return io.ErrUnexpectedEOF
	}
	flags, at := b[3], 10
	if b[0] != 0x1f || b[1] != 0x8b || b[2] != 8 || flags&reserved != 0 {
		return gzip.ErrHeader
	}
	if flags&extra != 0 {
		if len(b) < at+2 {
			return io.ErrUnexpectedEOF
		}
		at += 2 + int(binary.LittleEndian.Uint16(b[at:]))
	}
	for _, flag := range []byte{name, comment} {
		if flags&flag == 0 {
			continue
		}
		for at < len(b) && b[at] != 0 {
			at++
		}
		at++
	}
	if flags&headerSum != 0 {
		if len(b) < at+2 {
			return io.ErrUnexpectedEOF
		}
		if uint16(crc32.ChecksumIEEE(b[:at])) != binary.LittleEndian.Uint16(b[at:]) {
			return gzip.ErrHeader
		}
		at += 2
	}
	if at > len(b) {
		return io.ErrUnexpectedEOF
	}
	f.pos += at
	return nil
}

// deflated unpacks the blocks of a member and leaves pos behind them.
func (f *Inflater) deflated() error {
	f.bits, f.count, f.past = 0, 0, 0
	for last := false; !last; {
		f.refill()
		last = f.take(1) == 1
		var err error
		switch f.take(2) {
		case 0:
			err = f.stored()
		case 1:
			f.fixed()
			err = f.symbols()
		case 2:
			if err = f.dynamic(); err == nil {
				err = f.symbols()
			}
		default:
			err = ErrCorrupt
		}
		if err != nil {
			if f.cut() {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return f.align()
}

// refill makes count at least 56; behind the end of the input there are zeros.
func (f *Inflater) refill() {
	for f.count < 56 {
		if f.pos < len(f.src) {
			f.bits |= uint64(f.src[f.pos]) << f.count
			f.pos++
		} else {
			f.past++
		}
		f.count += 8
	}
}

// take returns the next n bits, of which there must be as many.
func (f *Inflater) take(n uint) uint {
	v := uint(f.bits & (1<<n - 1))
	f.bits >>= n
	f.count -= n
	return v
}

// cut says whether bits were used that are not in the input.
func (f *Inflater) cut() bool { return f.past*8 > int(f.count) }

// align goes on with the next whole byte of the input and forgets the bits.
func (f *Inflater) align() error {
	if f.cut() {
		return io.ErrUnexpectedEOF
	}
	f.pos -= int(f.count/8) - f.past
	f.bits, f.count, f.past = 0, 0, 0
	return nil
}

// room makes place for n bytes, and what symbols write too much, behind the
// output. What the file needs is not known beforehand: memory grows by half.
func (f *Inflater) room(n int) error {
	if f.out+n > f.bound {
		return ErrTooLarge
	}
	if need := f.out + n + roomy; need > len(f.dst) {
		grown := make([]byte, max(need, min(len(f.dst)*3/2, f.bound+roomy), 64<<10))
		copy(grown, f.dst[:f.out])
		f.dst = grown
	}
	return nil
}

func (f *Inflater) stored() error {
	if err := f.align(); err != nil {
		return err
	}
	b := f.src[f.pos:]
	if len(b) < 4 {
		return io.ErrUnexpectedEOF
	}
	n := int(binary.LittleEndian.Uint16(b))
	if uint16(n) != ^binary.LittleEndian.Uint16(b[2:]) {
		return ErrCorrupt
	}
	if len(b)-4 < n {
		return io.ErrUnexpectedEOF
	}
	if err := f.room(n); err != nil {
		return err
	}
	f.out += copy(f.dst[f.out:], b[4:4+n])
	f.pos += 4 + n
	return nil
}

// symbols unpacks a block up to its end with the tables that are set. It is where
// the time goes, most of it for jumps that nobody can foresee: whether a literal or
// a match comes next. Two literals before a match are what most blocks of profiles
// are made of, at most.
func (f *Inflater) symbols() error {
	src, dst := f.src, f.dst
	pos, out := f.pos, f.out
	bits, count := f.bits, f.count
	lit, dist := &f.lit, &f.dist
	full := min(len(dst)-roomy, f.bound)
	for {
		if pos+8 <= len(src) {
			bits |= binary.LittleEndian.Uint64(src[pos:]) << (count & 63)
			pos += int((63 - count) >> 3)
			count |= 56
		} else {
			f.pos, f.bits, f.count = pos, bits, count
			if f.refill(); f.cut() {
				return io.ErrUnexpectedEOF
			}
			pos, bits, count = f.pos, f.bits, f.count
		}
		if out > full {
			f.out = out
			if err := f.room(0); err != nil {
				return err
			}
			dst, full = f.dst, min(len(f.dst)-roomy, f.bound)
		}
		e := lit[bits&(1<<litBits-1)]
		if e&63 != 0 {
			dst[out] = byte(e >> 16)
			out++
			bits >>= e & 63
			count -= uint(e & 63)
			e = lit[bits&(1<<litBits-1)]
			if e&63 != 0 {
				dst[out] = byte(e >> 16)
				out++
				bits >>= e & 63
				count -= uint(e & 63)
				e = lit[bits&(1<<litBits-1)]
			}
		}
		if e&isMatch == 0 {
			if e&isLink != 0 {
				e = lit[(uint(e>>16)+uint(bits>>litBits)&(1<<(e>>8&15)-1))%litSize]
			}
			if e&63 != 0 {
				dst[out] = byte(e >> 16)
				out++
				bits >>= e & 63
				count -= uint(e & 63)
				continue
			}
			if e&isMatch == 0 {
				bits >>= e >> 8 & 63
				count -= uint(e >> 8 & 63)
				f.pos, f.out, f.bits, f.count = pos, out, bits, count
				switch {
				case e == 0:
					return ErrCorrupt
				case out > f.bound:
					return ErrTooLarge
				}
				return nil
			}
		}
		length := int(e>>16&0x1ff) + int(bits&(1<<(e>>8&63)-1)>>(e>>25&15))
		bits >>= e >> 8 & 63
		count -= uint(e >> 8 & 63)
		if count < maxCode+13 { // after a long literal and a long length
			f.pos, f.bits, f.count = pos, bits, count
			f.refill()
			pos, bits, count = f.pos, f.bits, f.count
		}
		e = dist[bits&(1<<distBits-1)]
		if e&isLink != 0 {
			e = dist[(uint(e>>16)+uint(bits>>distBits)&(1<<(e>>8&15)-1))%distSize]
		}
		distance := int(e>>16) + int(bits&(1<<(e&63)-1)>>(e>>8&15))
		bits >>= e & 63
		count -= uint(e & 63)
		if e&isMatch == 0 || distance > out-f.from {
			f.pos, f.out, f.bits, f.count = pos, out, bits, count
			return ErrCorrupt
		}
		if distance >= 8 && length <= 32 {
			// Four words, needed or not, are faster than to find out.
			from, to := (*[32]byte)(dst[out-distance:]), (*[32]byte)(dst[out:])
			binary.LittleEndian.PutUint64(to[:8], binary.LittleEndian.Uint64(from[:8]))
			binary.LittleEndian.PutUint64(to[8:16], binary.LittleEndian.Uint64(from[8:16]))
			binary.LittleEndian.PutUint64(to[16:24], binary.LittleEndian.Uint64(from[16:24]))
			binary.LittleEndian.PutUint64(to[24:], binary.LittleEndian.Uint64(from[24:]))
		} else {
			copyMatch(dst[out-distance:out+roomy-8], distance, length)
		}
		out += length
	}
}

// copyMatch repeats what is at the start of b, distance bytes later, for length
// bytes and up to seven more.
func copyMatch(b []byte, distance, length int) {
	if distance >= 8 {
		for i := 0; i < length; i += 8 {
			binary.LittleEndian.PutUint64(b[distance+i:], binary.LittleEndian.Uint64(b[i:]))
		}
		return
	}
	// A pattern shorter than a word: a word of it, again and again.
	word := binary.LittleEndian.Uint64(b) & (1<<(8*distance) - 1)
	for n := distance; n < 8; n *= 2 {
		word |= word << (8 * n)
	}
	step := 8 - 8%distance
	for i := 0; i < length; i += step {
		binary.LittleEndian.PutUint64(b[distance+i:], word)
	}
}
