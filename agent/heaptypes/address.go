package heaptypes

import (
	"fmt"
	"strconv"
)

// Address is a place in a program's memory. In JSON it is text such as
// "0x4a1b2c": not every reader of numbers has 64 bits for them.
type Address uint64

// MarshalText implements encoding.TextMarshaler.
func (a Address) MarshalText() ([]byte, error) {
	return strconv.AppendUint([]byte("0x"), uint64(a), 16), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Address) UnmarshalText(b []byte) error {
	s := string(b)
	if len(s) < 3 || len(s) > 18 || s[:2] != "0x" {
		return fmt.Errorf("%.20q is no address: it is written like 0x4a1b2c", s)
	}
	v, err := strconv.ParseUint(s[2:], 16, 64)
	if err != nil {
		return fmt.Errorf("%.20q is no address: it is written like 0x4a1b2c", s)
	}
	*a = Address(v)
	return nil
}
