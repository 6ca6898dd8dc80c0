//go:build !linux

package heaptypes

import (
	"fmt"
	"runtime"
)

// ownSpans would return where the program is mapped.
func ownSpans(uint64) (text, readOnly []span, err error) {
	return nil, nil, fmt.Errorf("on %s a process cannot look up how it is mapped, and without that nothing is read", runtime.GOOS)
}
