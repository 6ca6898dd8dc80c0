package heaptypes

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ownSpans returns where the file that pc comes from is mapped as code and as
// data that cannot be written.
func ownSpans(pc uint64) (text, readOnly []span, err error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil, nil, fmt.Errorf("the program's mappings cannot be read: %w", err)
	}
	defer func() { _ = f.Close() }()
	type mapping struct {
		span
		perm, file string
	}
	var all []mapping
	file := ""
	lines := bufio.NewScanner(f)
	for n := 0; lines.Scan() && n < maxMappings; n++ {
		// from-to perm offset device inode path
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[4] == "0" {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		lo, err1 := strconv.ParseUint(from, 16, 64)
		hi, err2 := strconv.ParseUint(to, 16, 64)
		if err1 != nil || err2 != nil || hi <= lo {
			continue
		}
		m := mapping{span{lo, hi}, fields[1], fields[3] + " " + fields[4]}
		if pc >= lo && pc < hi {
			file = m.file
		}
		all = append(all, m)
	}
	for _, m := range all {
		switch {
		case m.file != file:
		case m.perm == "r-xp":
			text = append(text, m.span)
		case m.perm == "r--p":
			readOnly = append(readOnly, m.span)
		}
	}
	if len(text) == 0 || len(readOnly) == 0 {
		return nil, nil, errors.New("the program's code and constants are not mapped from its file")
	}
	return text, readOnly, nil
}

// maxMappings is more than the kernel allows by default.
const maxMappings = 1 << 17
