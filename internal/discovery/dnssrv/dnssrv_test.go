package dnssrv

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nameServer speaks DNS over UDP and, for what does not fit, over TCP.
type nameServer struct {
	address string

	mu      sync.Mutex
	records []dnsmessage.SRVResource
	rcode   dnsmessage.RCode
	garbage bool
	stop    func()
}

func (n *nameServer) listen(t *testing.T, address string) {
	t.Helper()
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n.address = tcp.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 4096)
		for {
			k, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(n.answer(b[:k], true), from)
		}
	})
	wg.Go(func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { n.talk(c) })
		}
	})
	var once sync.Once
	n.stop = func() { once.Do(func() { _ = udp.Close(); _ = tcp.Close(); wg.Wait() }) }
	t.Cleanup(func() { n.stop() })
}

func (n *nameServer) talk(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		q := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, q); err != nil {
			return
		}
		a := n.answer(q, false)
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)); err != nil {
			return
		}
	}
}

func (n *nameServer) answer(query []byte, udp bool) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.garbage {
		return query[:min(7, len(query))]
	}
	var q dnsmessage.Message
	if err := q.Unpack(query); err != nil {
		return nil
	}
	a := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, Authoritative: true, RCode: n.rcode}, Questions: q.Questions}
	if n.rcode == dnsmessage.RCodeSuccess && len(n.records) == 0 {
		a.RCode = dnsmessage.RCodeNameError
	}
	if a.RCode == dnsmessage.RCodeSuccess {
		for i := range n.records {
			a.Answers = append(a.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Type: dnsmessage.TypeSRV, Class: dnsmessage.ClassINET, TTL: 1},
				Body:   &n.records[i],
			})
		}
	}
	b, err := a.Pack()
	if err != nil {
		return nil
	}
	if limit := map[bool]int{true: 512, false: 65535}[udp]; len(b) > limit {
		a.Answers, a.Truncated = nil, true
		b, _ = a.Pack()
	}
	return b
}

func (n *nameServer) set(t *testing.T, hosts ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records, n.rcode, n.garbage = nil, dnsmessage.RCodeSuccess, false
	for _, h := range hosts {
		host, port, err := net.SplitHostPort(h)
		if err != nil {
			t.Fatal(err)
		}
		p, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		name, err := dnsmessage.NewName(host + ".")
		if err != nil {
			t.Fatal(err)
		}
		n.records = append(n.records, dnsmessage.SRVResource{Priority: 1, Weight: 1, Port: uint16(p), Target: name})
	}
}

func (n *nameServer) fail(code dnsmessage.RCode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rcode = code
}

func source(t *testing.T, n *nameServer, c Config) *Source {
	t.Helper()
	c.Name, c.Server, c.Refresh = "_pprof._tcp.games.example", n.address, 20*time.Millisecond
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	src := s.(*Source)
	src.within = 500 * time.Millisecond
	return src
}

func TestSource(t *testing.T) {
	opstest.TestSource(t, func(t *testing.T, initial []ops.Target) opstest.SourceBackend {
		if len(initial) > 1000 {
			t.Skip("one DNS message holds some thousand records at most: larger fleets need another source")
		}
		n := &nameServer{}
		n.listen(t, "127.0.0.1:0")
		s := &translated{}
		set := func(t *testing.T, targets []ops.Target) {
			n.set(t, s.hosts(targets)...)
		}
		set(t, initial)
		s.Source = source(t, n, Config{Project: "color-game", Service: "user-service"})
		return opstest.SourceBackend{
			Source: s, Set: set,
			Break:  func(*testing.T) { n.mu.Lock(); defer n.mu.Unlock(); n.garbage = true },
			Stop:   func(*testing.T) { n.stop() },
			Start:  func(t *testing.T) { n.listen(t, n.address) },
			Refuse: func(*testing.T) string { n.fail(dnsmessage.RCodeRefused); return "refuses to answer for this name" },
		}
	})
}

func TestNew(t *testing.T) {
	good := Config{Name: "_pprof._tcp.games.example", Service: "user-service"}
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Scheme = "grpcs" }, ""},
		{func(c *Config) { c.Name = "" }, "name: missing: write the records' full name, such as _pprof._tcp.user-service.example.com"},
		{func(c *Config) { c.Name = "http://x" }, `name: "http://x" is no DNS name: write one such as _pprof._tcp.user-service.example.com`},
		{func(c *Config) { c.Service = "" }, "service, project, path or labels: the service is missing: say which service the target belongs to"},
		{func(c *Config) { c.Scheme = "ftp" }, `scheme: "ftp" is none: use http, https, grpc or grpcs`},
		{func(c *Config) { c.Scheme, c.Path = "grpc", "/x" }, "path: an agent has none: leave it out, or use the scheme http"},
		{func(c *Config) { c.Path = "debug" }, `path: "debug": begin it with a slash`},
		{func(c *Config) { c.Refresh = -time.Second }, "refresh: -1s is too short: use one such as 30s"},
	} {
		cfg := good
		c.change(&cfg)
		err := cfg.Validate()
		if got := errors.Join(err); (got == nil) != (c.want == "") || err != nil && (err.Error() != c.want || ops.KindOf(err) != ops.Invalid) {
			t.Errorf("%v\nwant %s", err, c.want)
		}
	}
}

func TestOneMissIsNotBelieved(t *testing.T) {
	n := &nameServer{}
	n.listen(t, "127.0.0.1:0")
	n.set(t, "a.games.example:6060")
	s := source(t, n, Config{Service: "user-service"})
	list, err := s.ask(t.Context())
	if err != nil || len(list) != 1 || list[0].URL != "http://a.games.example:6060/debug/pprof" || list[0].Project != "default" {
		t.Fatal(list, err)
	}
	n.set(t)
	if list, err := s.ask(t.Context()); err == nil || !strings.Contains(err.Error(), "asking once more") {
		t.Error(list, err)
	}
	if list, err := s.ask(t.Context()); err != nil || list == nil || len(list) != 0 {
		t.Error(list, err)
	}
}
