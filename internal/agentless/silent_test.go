package agentless

import (
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"

	"github.com/opscenter/opscenter/internal/ops"
)

// dialFails is a network that a program is not let onto.
type dialFails struct{ why syscall.Errno }

func (f dialFails) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", f.why)}
}

// That the centre is out of connections is not said of the target.
func TestACentreThatMayOpenNoMore(t *testing.T) {
	for _, c := range []struct {
		why  syscall.Errno
		kind ops.ErrorKind
		want string
	}{
		{syscall.EMFILE, ops.Exhausted, "http://10.0.0.7:6060/debug/pprof is not asked: the centre has as many files and connections open as it may (dial tcp: socket: too many open files): raise that limit (LimitNOFILE, ulimit -n) well above the number of processes without an agent, and start the centre again"},
		{syscall.ECONNREFUSED, ops.Unavailable, "http://10.0.0.7:6060/debug/pprof does not answer: dial tcp: socket: connection refused"},
	} {
		h, err := newHost("http://10.0.0.7:6060", 0)
		if err != nil {
			t.Fatal(err)
		}
		h.client = &http.Client{Transport: dialFails{c.why}}
		h.patience = 1 << 40
		l := &Link{host: h}
		_, err = l.introduce(t.Context(), ops.Target{URL: "http://10.0.0.7:6060"})
		if err == nil || err.Error() != c.want || ops.KindOf(err) != c.kind {
			t.Errorf("introduce: %v", err)
		}
		err = l.Watch(t.Context(), 0, true, nil)
		if err == nil || err.Error() != c.want || ops.KindOf(err) != c.kind {
			t.Errorf("watch: %v", err)
		}
	}
}
