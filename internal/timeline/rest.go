package timeline

import (
	"strings"

	"github.com/opscenter/opscenter/internal/goroutines"
)

// atRest reports whether who waits with this stack waits for work and not for
// anybody's answer: a listener, an idle connection, the housekeeping of a library
// or of the runtime. They wait longest of all, and it means nothing.
func atRest(s Stack) bool {
	own := false // a frame beyond the runtime's
	frames := make([]goroutines.Frame, len(s))
	for i, f := range s {
		if strings.HasPrefix(f.Function, "net.(*netFD).accept") {
			return true
		}
		own = own || !strings.HasPrefix(f.Function, "runtime.") && !strings.HasPrefix(f.Function, "runtime/")
		frames[i].Function = f.Function
	}
	if !own {
		return len(s) > 0
	}
	switch goroutines.WaitOf(frames).Class {
	case goroutines.Housekeeping, goroutines.HTTPServerIdle, goroutines.HTTPServerWatch, goroutines.HTTPClientConn, goroutines.Transport:
		return true
	}
	return false
}
