package timeline

import (
	"strings"
	"testing"
)

func TestWhoWaitsForWork(t *testing.T) {
	for stack, want := range map[string]bool{
		"internal/poll.runtime_pollWait net.(*netFD).accept net.(*TCPListener).Accept net/http.(*Server).Serve main.main": true,
		"os/signal.signal_recv os/signal.loop":                         true,
		"runtime.gopark runtime.bgsweep":                               true,
		"net.(*conn).Read bufio.(*Reader).Peek net/http.(*conn).serve": true,
		"net.(*conn).Read net/http.(*persistConn).readLoop":            true,
		"sync.(*Mutex).Lock main.(*Ledger).Commit":                     false,
		"runtime.chanrecv1 main.worker":                                false,
		"net.(*conn).Read github.com/jackc/pgx/v5.(*Conn).Query main.load net/http.HandlerFunc.ServeHTTP net/http.(*conn).serve": false,
		"": false,
	} {
		var s Stack
		for _, f := range strings.Fields(stack) {
			s = append(s, Frame{Function: f})
		}
		if got := atRest(s); got != want {
			t.Errorf("%q is at rest: %v", stack, got)
		}
	}
}
