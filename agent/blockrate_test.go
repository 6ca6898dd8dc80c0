package agent

import (
	"encoding/hex"
	"runtime"
	"strings"
	"testing"
)

// setterAMD64 and setterARM64 are the ends of runtime.SetBlockProfileRate as Go
// 1.26 compiles it, with the addresses they were linked at.
const (
	setterAMD64 = "4885c0 b901000000 480f44c1 488d0d5fa91000 488701 5d c3"
	startAMD64  = 0x43abd6
	addrAMD64   = 0x43abe9 + 0x10a95f

	startARM64 = 0x46cbb8
)

var setterARM64 = []uint32{0x9a800020, 0xf00008a1, 0x912a8021, 0xc89ffc20, 0xf85f83fd, 0xd65f03c0}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func codeARM64() (b []byte) {
	for _, w := range setterARM64 {
		b = append(b, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
	}
	return b
}

func TestBlockRateAddress(t *testing.T) {
	if got, ok := blockRateAMD64(unhex(t, setterAMD64), startAMD64); !ok || got != addrAMD64 {
		t.Errorf("amd64: %#x, %v, want %#x", got, ok, addrAMD64)
	}
	// 0x46c000 is the page of the ADRP; its operand is 0x117 pages on.
	const want = 0x46c000 + 0x117*0x1000 + 2720
	if got, ok := blockRateARM64(codeARM64(), startARM64); !ok || got != want {
		t.Errorf("arm64: %#x, %v, want %#x", got, ok, want)
	}
}

func TestBlockRateAddressIsNotGuessed(t *testing.T) {
	code := unhex(t, setterAMD64)
	for name, code := range map[string][]byte{
		"nothing":      nil,
		"no store":     code[:18],
		"two stores":   append(append([]byte(nil), code...), code...),
		"other base":   unhex(t, "488d055fa91000 488701"),
		"other opcode": unhex(t, "488d0d5fa91000 488901"),
	} {
		if got, ok := blockRateAMD64(code, startAMD64); ok {
			t.Errorf("amd64 %s: %#x", name, got)
		}
	}
	two := append(codeARM64(), codeARM64()...)
	for name, code := range map[string][]byte{"nothing": nil, "half": codeARM64()[:10], "two stores": two} {
		if got, ok := blockRateARM64(code, startARM64); ok {
			t.Errorf("arm64 %s: %#x", name, got)
		}
	}
}

func FuzzBlockRateAddress(f *testing.F) {
	f.Add(codeARM64(), uint64(startARM64))
	f.Fuzz(func(_ *testing.T, code []byte, pc uint64) {
		blockRateAMD64(code, pc)
		blockRateARM64(code, pc)
	})
}

func TestBlockRateRoundTrip(t *testing.T) {
	b := findBlockRate()
	if runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64") && !b.known() {
		t.Fatalf("the block rate of %s cannot be read any more", runtime.Version())
	}
	if !b.known() {
		t.Skip("not on this platform")
	}
	defer runtime.SetBlockProfileRate(0)
	for _, nanos := range []int{0, 1, 2, 3, 999, 1000, 10_000, 12345, 1_000_000, 1_000_000_007} {
		runtime.SetBlockProfileRate(nanos)
		ticks := b.ticks()
		if nanos <= 1 && ticks != uint64(nanos) {
			t.Errorf("rate %d reads as %d ticks", nanos, ticks)
		}
		runtime.SetBlockProfileRate(1)
		b.restore(ticks)
		if got := b.ticks(); got != ticks {
			t.Errorf("rate %d: %d ticks came back as %d", nanos, ticks, got)
		}
	}
}
