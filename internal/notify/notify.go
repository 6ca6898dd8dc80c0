// Package notify tells people in their chat what the centre saw while nobody
// looked: a verdict, an instance in trouble, a process that died, a rule that
// fired. It groups what belongs together, keeps quiet at night, tries again when
// a chat is away, and says what it could not deliver. It must not know how any of
// it was found out.
package notify

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Kind is what an event is about.
type Kind string

// The kinds of events.
const (
	Diagnosis Kind = "diagnosis" // a capture was diagnosed
	Health    Kind = "health"    // an instance does badly
	Ended     Kind = "ended"     // a process died without a word
	Rule      Kind = "rule"      // a rule fired, or was refused
)

// Kinds returns all kinds of events.
func Kinds() []Kind { return []Kind{Diagnosis, Health, Ended, Rule} }

// Event is one thing that somebody may want to hear of.
type Event struct {
	Kind     Kind
	At       time.Time // zero = when it is told
	Severity ops.Severity
	Project  ops.ProjectName
	Service  ops.ServiceName
	Instance ops.InstanceID
	// Address is how people know the instance: "host/pid".
	Address string
	// Subject names the trouble within its kind: the rule, the check.
	Subject string
	// Title is the line that says it all; Detail is what follows it.
	Title, Detail ops.Text
	// Function and Place are the line to change first: "room.go:98". Empty = unknown.
	Function, Place string
	// Path of the page that shows it, below the centre's address: "/captures/x".
	Path string
}

// group is what makes two events one message: the same trouble of one service.
type group struct {
	kind    Kind
	project ops.ProjectName
	service ops.ServiceName
	subject string
}

func (e Event) group() group { return group{e.Kind, e.Project, e.Service, e.Subject} }

// Config makes a Notifier.
type Config struct {
	// BaseURL is the centre's address for links, such as "https://ops.example.com".
	BaseURL string
	// Channels that a file declares: Declare replaces them, people cannot.
	Channels []Channel
	// File keeps the channels that people add; empty = they are forgotten.
	File string
	// DialControl refuses addresses that no chat has; nil = none.
	DialControl func(network, address string, c syscall.RawConn) error
	// RootCAs verify the chats; nil = the system's.
	TLS    *tls.Config
	Logger *slog.Logger // nil = silent
}

// Notifier delivers events to channels.
type Notifier struct {
	base   string
	file   string
	client *http.Client
	log    *slog.Logger

	mu       sync.Mutex // guards all below
	channels map[string]*line
	life     context.Context // of Run; nil before and after
	workers  sync.WaitGroup  // of lines; Add under mu while life is set
}

// New makes a notifier of the channels in c.Channels and c.File. Run delivers.
func New(c Config) (*Notifier, error) {
	n := &Notifier{base: c.BaseURL, file: c.File, log: c.Logger, channels: map[string]*line{}}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: c.DialControl}
	n.client = &http.Client{
		Timeout: 20 * time.Second,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: c.TLS,
			TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		},
		// A chat that answers with another address is not the one that was named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if err := check(c.Channels); err != nil {
		return nil, err
	}
	n.Declare(c.Channels)
	kept, err := readKept(c.File)
	if err != nil {
		return nil, err
	}
	for _, ch := range kept {
		if n.channels[ch.Name] == nil { // the declared one has the name now
			n.channels[ch.Name] = newLine(ch)
		}
	}
	return n, nil
}

// check says what is wrong with channels that a file declares.
func check(all []Channel) error {
	names := map[string]bool{}
	for _, ch := range all {
		if err := ch.Validate(); err != nil {
			return err
		}
		if names[ch.Name] {
			return ops.Errorf(ops.Invalid, "two channels have the name %q: give each its own", ch.Name)
		}
		names[ch.Name] = true
	}
	return nil
}

// Declare replaces the channels that a file declares, which Load found right. One
// that stays as it was goes on with all that waits in it; what waits in one that
// changed or is gone is forgotten. One that people added gives way to a declared
// one of its name.
func (n *Notifier) Declare(all []Channel) {
	n.mu.Lock()
	defer n.mu.Unlock()
	declared := map[string]bool{}
	for _, ch := range all {
		ch.declared, declared[ch.Name] = true, true
		old := n.channels[ch.Name]
		if old != nil && reflect.DeepEqual(old.channel, ch) {
			continue
		}
		if old != nil {
			old.end()
		}
		l := newLine(ch)
		n.channels[ch.Name] = l
		n.start(l)
	}
	for name, l := range n.channels {
		if l.channel.declared && !declared[name] {
			l.end()
			delete(n.channels, name)
		}
	}
}

// Run delivers until ctx ends, then what waits to be grouped, for a moment.
func (n *Notifier) Run(ctx context.Context) error {
	n.mu.Lock()
	n.life = ctx
	for _, l := range n.channels {
		n.start(l)
	}
	n.mu.Unlock()
	<-ctx.Done()
	n.mu.Lock()
	n.life = nil
	n.mu.Unlock()
	n.workers.Wait()
	n.client.CloseIdleConnections()
	return nil
}

// start runs a line. The caller holds n.mu.
func (n *Notifier) start(l *line) {
	if n.life == nil {
		return
	}
	ctx, stop := context.WithCancel(n.life)
	l.stop = stop
	n.workers.Go(func() { n.deliver(ctx, l) })
}

// Tell hands an event to the channels that want it. It never blocks.
func (n *Notifier) Tell(e Event) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	n.mu.Lock()
	lines := make([]*line, 0, len(n.channels))
	for _, l := range n.channels {
		if l.channel.wants(e) {
			lines = append(lines, l)
		}
	}
	n.mu.Unlock()
	for _, l := range lines {
		l.add(e, time.Now())
	}
}

// Status is a channel and how it does.
type Status struct {
	Channel Channel // without its secrets
	// Declared channels are in a file and cannot be changed here.
	Declared bool
	// Waiting are the messages that are grouped, held for the end of quiet hours,
	// or tried again.
	Waiting int
	Sent    int64
	Failed  int64 // given up
	Dropped int64 // events that there was no room for
	// LastSent and LastError are the latest of each; zero = none.
	LastSent    time.Time
	LastError   string
	LastErrorAt time.Time
	// QuietUntil is when quiet hours end; zero = it is not quiet.
	QuietUntil time.Time
	// Recent are the latest deliveries, newest first.
	Recent []Delivery
}

// Delivery is a message and what became of it.
type Delivery struct {
	At       time.Time
	Title    string
	Severity ops.Severity
	Events   int
	Attempts int
	Error    string // empty = delivered
}

// Channels returns all channels by name.
func (n *Notifier) Channels() []Status {
	n.mu.Lock()
	lines := make([]*line, 0, len(n.channels))
	for _, l := range n.channels {
		lines = append(lines, l)
	}
	n.mu.Unlock()
	out := make([]Status, len(lines))
	for i, l := range lines {
		out[i] = l.status(time.Now())
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Compare(a.Channel.Name, b.Channel.Name) })
	return out
}

// Put adds a channel or replaces the one of its name. Secrets that are left
// empty stay what they were, for nobody is shown them; those of another type or
// address do not carry over. Conflict if a file declares it.
func (n *Notifier) Put(ch Channel) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.channels[ch.Name]
	if old != nil {
		if old.channel.declared {
			return declaredError(ch.Name)
		}
		ch = ch.withSecretsOf(old.channel)
	}
	if err := ch.Validate(); err != nil {
		return err
	}
	l := newLine(ch)
	kept := n.kept(ch.Name)
	if err := writeKept(n.file, append(kept, ch)); err != nil {
		return err
	}
	if old != nil {
		old.end()
	}
	n.channels[ch.Name] = l
	n.start(l)
	return nil
}

// Delete forgets a channel and what waits in it. NotFound, or Conflict if a file
// declares it.
func (n *Notifier) Delete(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.channels[name]
	switch {
	case l == nil:
		return ops.Errorf(ops.NotFound, "there is no channel %q: see the list of channels", name)
	case l.channel.declared:
		return declaredError(name)
	}
	if err := writeKept(n.file, n.kept(name)); err != nil {
		return err
	}
	delete(n.channels, name)
	l.end()
	return nil
}

func declaredError(name string) error {
	return ops.Errorf(ops.Conflict, "channel %q is declared in a file: change it there", name)
}

// kept returns the channels that people added, but for one. The caller holds n.mu.
func (n *Notifier) kept(but string) []Channel {
	var out []Channel
	for name, l := range n.channels {
		if name != but && !l.channel.declared {
			out = append(out, l.channel)
		}
	}
	slices.SortFunc(out, func(a, b Channel) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Test sends a message to a channel at once, whatever its filters and quiet
// hours say, and returns what the chat said to it.
func (n *Notifier) Test(ctx context.Context, name, actor string) error {
	n.mu.Lock()
	l := n.channels[name]
	n.mu.Unlock()
	if l == nil {
		return ops.Errorf(ops.NotFound, "there is no channel %q: see the list of channels", name)
	}
	m := testMessage(l.channel.Lang, n.base, actor, time.Now())
	_, err := n.send(ctx, l.channel, m)
	l.record(m, 1, err, time.Now())
	if err != nil {
		return ops.Errorf(ops.Unavailable, "channel %q: %w", name, err)
	}
	return nil
}

// Say is how many lines of a status a person reads.
func (s Status) Say() string {
	return fmt.Sprintf("%d sent, %d failed, %d waiting, %d dropped", s.Sent, s.Failed, s.Waiting, s.Dropped)
}
