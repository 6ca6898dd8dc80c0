package app

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/opscenter/opscenter/agent"
	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/cli"
)

// network is what lies between agents and their centre: an address that stays while
// the centre behind it changes, and that can swallow everything for a while.
type network struct {
	ln      net.Listener
	running sync.WaitGroup

	mu     sync.Mutex // guards all below
	flows  *sync.Cond // signals that held is false again
	held   bool
	centre string // empty = there is none: who dials is refused
	ended  bool
	open   map[net.Conn]bool
}

func newNetwork(t *testing.T, url string) *network {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{ln: ln, centre: strings.TrimPrefix(url, "http://"), open: map[net.Conn]bool{}}
	n.flows = sync.NewCond(&n.mu)
	n.running.Go(n.accept)
	t.Cleanup(func() {
		n.mu.Lock()
		n.ended, n.held = true, false
		n.flows.Broadcast()
		for c := range n.open {
			_ = c.Close()
		}
		n.mu.Unlock()
		_ = ln.Close()
		n.running.Wait()
	})
	return n
}

func (n *network) accept() {
	for {
		near, err := n.ln.Accept()
		if err != nil {
			return
		}
		n.mu.Lock()
		to := n.centre
		n.mu.Unlock()
		far, err := net.Dial("tcp", to) //nolint:noctx // the test's end closes it
		if err != nil {
			_ = near.Close()
			continue
		}
		n.mu.Lock()
		if n.ended {
			n.mu.Unlock()
			_, _ = near.Close(), far.Close()
			return
		}
		n.open[near], n.open[far] = true, true
		n.mu.Unlock()
		n.running.Go(func() { n.carry(near, far) })
		n.running.Go(func() { n.carry(far, near) })
	}
}

// carry copies until one end closes; what is held arrives later, as it does when
// packets are sent again.
func (n *network) carry(to, from net.Conn) {
	defer func() {
		_, _ = to.Close(), from.Close()
		n.mu.Lock()
		delete(n.open, to)
		delete(n.open, from)
		n.mu.Unlock()
	}()
	b := make([]byte, 32<<10)
	for {
		k, err := from.Read(b)
		n.mu.Lock()
		for n.held {
			n.flows.Wait()
		}
		n.mu.Unlock()
		if _, werr := to.Write(b[:k]); err != nil || werr != nil {
			return
		}
	}
}

// hold swallows all that is sent, or lets it flow again.
func (n *network) hold(held bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = held
	n.flows.Broadcast()
}

// move puts another centre behind the address.
func (n *network) move(url string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.centre = strings.TrimPrefix(url, "http://")
}

// TestTheCentreRestartsUnderTwoHundredAgents: all come back by themselves as who
// they were, and nobody is there twice. When they dial is tested by their schedule:
// agent.TestThousandsComeBackSpread.
func TestTheCentreRestartsUnderTwoHundredAgents(t *testing.T) {
	const many = 200
	data := t.TempDir()
	url, stop := serve(t, cli.ServeOptions{DataDir: data})
	n := newNetwork(t, url)
	boots := map[string]bool{}
	spool := t.TempDir()
	var agents []*agent.Agent
	for range many {
		a, err := agent.Start(agent.Config{Center: "http://" + n.ln.Addr().String(), Project: "color-game", Service: "room", SpoolDir: spool, HeapTypes: "off"})
		if err != nil {
			t.Fatal(err)
		}
		agents = append(agents, a)
		boots[a.BootID()] = true
	}
	t.Cleanup(func() {
		var leaving sync.WaitGroup
		for _, a := range agents {
			leaving.Go(func() { _ = a.Close() })
		}
		leaving.Wait()
	})
	c := client(t, &http.Transport{})
	up := func(at string) (count int) {
		for _, i := range instances(t, c, at, 1) {
			if i.GetService() == "room" && i.GetState() == apiv1.InstanceState_INSTANCE_STATE_UP {
				if !boots[i.GetId()] {
					t.Errorf("a stranger: %v", i)
				}
				count++
			}
		}
		return count
	}
	for _, again := range []bool{false, true} {
		if again {
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			url, _ = serve(t, cli.ServeOptions{DataDir: data})
			n.move(url)
		}
		for deadline := time.Now().Add(2 * time.Minute); up(url) < many; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("of %d agents %d are up (after a restart: %v)", many, up(url), again)
			}
		}
	}
	rooms := 0
	for _, i := range instances(t, c, url, many) {
		if i.GetService() == "room" {
			rooms++
		}
	}
	if rooms != many {
		t.Errorf("%d instances of %d agents", rooms, many)
	}
}

// TestTheNetworkIsAwayDuringACapture: nobody is dropped, and nothing is lost, when
// all comes through again before anybody had to give up.
func TestTheNetworkIsAwayDuringACapture(t *testing.T) {
	url, _ := serve(t, cli.ServeOptions{})
	n := newNetwork(t, url)
	a, err := agent.Start(agent.Config{Center: "http://" + n.ln.Addr().String(), Project: "color-game", Service: "room", SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	c := client(t, &http.Transport{})
	instances(t, c, url, 2)
	captures := apiv1connect.NewCaptureServiceClient(c, url)
	started, err := captures.StartCapture(t.Context(), connect.NewRequest(&apiv1.StartCaptureRequest{
		InstanceIds: []string{a.BootID()}, Spec: &apiv1.CaptureSpec{Duration: durationpb.New(2 * time.Second), Kinds: []string{"goroutine", "heap", "runtime"}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // into the window; anywhere will do
	n.hold(true)
	time.Sleep(2500 * time.Millisecond) // beyond its end, and below what an agent is given to be silent
	n.hold(false)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		got, err := captures.GetCapture(t.Context(), connect.NewRequest(&apiv1.GetCaptureRequest{CaptureId: started.Msg.GetCapture().GetId()}))
		if err != nil {
			t.Fatal(err)
		}
		one := got.Msg.GetCapture()
		if one.GetState() == apiv1.CaptureState_CAPTURE_STATE_DONE {
			break
		}
		if time.Now().After(deadline) || one.GetReason() != "" {
			t.Fatalf("%v: %s", one.GetState(), one.GetReason())
		}
	}
	for _, i := range instances(t, c, url, 2) {
		if i.GetState() != apiv1.InstanceState_INSTANCE_STATE_UP {
			t.Errorf("%s is %v", i.GetService(), i.GetState())
		}
	}
}
