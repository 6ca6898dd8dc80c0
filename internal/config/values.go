package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Duration is Go's durations and days: 30s, 12h, 30d. It is a flag's value and
// one of the file.
type Duration time.Duration //nolint:recvcheck // a flag is set through a pointer and printed by value

func (d Duration) String() string {
	const day = 24 * time.Hour
	switch v := time.Duration(d); {
	case v == 0:
		return ""
	case v%day == 0:
		return strconv.Itoa(int(v/day)) + "d"
	default:
		return v.String()
	}
}

// Set reads a duration of 0 or more.
func (d *Duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		v = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || v < 0 {
		return fmt.Errorf("use a number and a unit, such as 30s, 5m, 12h or 7d")
	}
	*d = Duration(v)
	return nil
}

// Type is the flag's.
func (*Duration) Type() string { return "duration" }

// UnmarshalText is Set for the file.
func (d *Duration) UnmarshalText(b []byte) error { return d.Set(string(b)) }

// Size is a number of bytes, written 500MB or 10GiB.
type Size int64 //nolint:recvcheck // as Duration

// String is exact: in the largest unit that leaves no rest.
func (v Size) String() string {
	if v == 0 {
		return ""
	}
	for _, unit := range []struct {
		bytes Size
		name  string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1 << 10, "KiB"}, {1e3, "kB"}} {
		if v%unit.bytes == 0 {
			return strconv.FormatInt(int64(v/unit.bytes), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(v), 10) + "B"
}

// Set reads a size.
func (v *Size) Set(s string) error {
	n, err := humanize.ParseBytes(s)
	if err != nil || n > math.MaxInt64 {
		return fmt.Errorf("use a size such as 500MB or 10GiB")
	}
	*v = Size(n)
	return nil
}

// Type is the flag's.
func (*Size) Type() string { return "size" }

// UnmarshalText is Set for the file.
func (v *Size) UnmarshalText(b []byte) error { return v.Set(string(b)) }
