// Package agentless reaches processes that have no agent in them, through the
// endpoints of net/http/pprof: it makes instances of them that the fleet can
// watch, and collects the same artifacts as an agent where the endpoints give
// them. What they do not give is a loss. It knows nothing of captures as a whole
// or of where artifacts go.
package agentless

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Joiner is the fleet. Join blocks while the membership lives.
type Joiner interface {
	Join(ctx context.Context, i ops.Instance, l ops.Link) error
}

// bootProfile begins the name of the empty profile by which an agent shows its
// boot id in the index of the process it is in.
const bootProfile = "opscenter.agent."

// Config is what a Connector is made of. Its zero value can Open but not Connect.
type Config struct {
	Fleet  Joiner
	Logger *slog.Logger // nil = silent
	// Patience is how long an endpoint, or the whole target, may be silent
	// beyond what was asked of it; 0 = 15 s.
	Patience time.Duration
}

// Connector makes instances of targets.
type Connector struct {
	fleet    Joiner
	log      *slog.Logger
	patience time.Duration
}

// New makes a connector, which connects to nothing yet.
func New(c Config) *Connector {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Connector{fleet: c.Fleet, log: c.Logger, patience: cmp.Or(c.Patience, 15*time.Second)}
}

// Connect lets the target join the fleet and returns when it has left: why the
// target could not be reached, or what ended the membership.
func (c *Connector) Connect(ctx context.Context, t ops.Target) error {
	i, l, err := c.Open(ctx, t)
	if err != nil {
		return err
	}
	defer l.Close()
	if id := c.agentOf(l.agents, i.Key()); id != "" {
		i.ID = id // one process, however many say so
	}
	c.log.Debug("agentless target reached", "instance", i.ID, "address", i.Address)
	return c.fleet.Join(ctx, i, l)
}

// agentOf chooses the agent of a process that is listed as that service: the one
// that is connected, or the only one there ever was. Empty = none; so it is where
// the agent names another service: the list is believed, and both are shown.
func (c *Connector) agentOf(ids []ops.InstanceID, listed ops.ServiceKey) ops.InstanceID {
	if fleet, ok := c.fleet.(interface {
		AgentOf(ops.InstanceID) (ops.ServiceKey, bool)
	}); ok {
		other := false
		for _, id := range ids {
			key, connected := fleet.AgentOf(id)
			if connected && key == listed {
				return id
			}
			other = other || connected
		}
		if other {
			return ""
		}
	}
	if len(ids) == 1 {
		return ids[0]
	}
	return ""
}

// agentsIn are the boot ids that an index lists.
func agentsIn(index map[string]int64) (out []ops.InstanceID) {
	for name := range index {
		if id, ok := strings.CutPrefix(name, bootProfile); ok && ops.InstanceID(id).Valid() {
			out = append(out, ops.InstanceID(id))
		}
	}
	slices.Sort(out)
	return out
}

// Open reaches a target without a fleet. Close the link when done. Invalid for a
// URL that cannot be one of net/http/pprof, Denied for an address that is never
// dialled or credentials that are refused, Unavailable when nothing answers.
func (c *Connector) Open(ctx context.Context, t ops.Target) (ops.Instance, *Link, error) {
	h, err := newHost(t.URL, c.patience)
	if err != nil {
		return ops.Instance{}, nil, err
	}
	l := &Link{host: h, log: c.log, windows: map[ops.CaptureID]*window{}}
	i, err := l.introduce(ctx, t)
	if err != nil {
		l.Close()
		return ops.Instance{}, nil, err
	}
	return i, l, nil
}

// introduce asks the target who it is.
func (l *Link) introduce(ctx context.Context, t ops.Target) (ops.Instance, error) {
	seen, err := l.host.index(ctx)
	executable := ""
	if name, nameErr := l.host.executable(ctx); nameErr == nil {
		executable = name
	} else if err != nil {
		return ops.Instance{}, l.unreachable(err)
	}
	if err == nil && len(seen) == 0 && executable == "" {
		return ops.Instance{}, ops.Errorf(ops.Unavailable, "%s answers, but not as net/http/pprof does: check the path of the target's URL, which must lead to the index page", l.host.address)
	}
	l.standardIndex = len(seen) > 0
	l.agents = agentsIn(seen)
	if _, err := l.host.memstats(ctx); err == nil {
		l.servesVars = true
	}
	now := time.Now()
	i := ops.Instance{
		Project: ops.ProjectName(cmp.Or(string(t.Project), "default")),
		Service: ops.ServiceName(cmp.Or(string(t.Service), serviceName(executable))),
		Source:  t.Source, Agentless: true, Address: l.host.address, Labels: t.Labels,
		Process: ops.Process{Hostname: l.host.base.Hostname(), Executable: executable},
		State:   ops.InstanceUp, StateSince: now, Joined: now, LastSeen: now,
		Kinds: kinds(seen),
	}
	// Text of all stacks: fine for a small process, a cost for a large one.
	if n, ok := seen["goroutine"]; ok && n < maxDumpGoroutines {
		i.Build = l.host.build(ctx)
	}
	i.ID = instanceID(i, t.Source)
	l.instance = i
	return i, nil
}

// instanceID is derived from where the target was learned from and where it is:
// without an agent there is no boot id, so that a process which restarts at the
// same address is the same instance.
func instanceID(i ops.Instance, source string) ops.InstanceID {
	sum := sha256.Sum256([]byte(strings.Join([]string{source, string(i.Project), string(i.Service), i.Address}, "\x00")))
	return ops.InstanceID("agentless-" + hex.EncodeToString(sum[:12]))
}

func serviceName(executable string) string {
	if name := path.Base(strings.ReplaceAll(executable, `\`, "/")); ops.ValidName(name) {
		return name
	}
	return "unknown"
}

// kinds are those that the endpoints can give, by what the index lists.
func kinds(index map[string]int64) (out []ops.Kind) {
	for _, k := range ops.FullSet() {
		_, listed := index[string(k)]
		switch k {
		case ops.KindCPU, ops.KindTrace, ops.KindRuntime, ops.KindGoroutineDump:
			listed = true
		case ops.KindGoroutineLeak, ops.KindHeapTypes: // only if listed
		default:
			listed = listed || len(index) == 0 // an index of somebody's own
		}
		if listed {
			out = append(out, k)
		}
	}
	return out
}

// unreachable is the error for a target that nothing could be learned from.
func (l *Link) unreachable(err error) error {
	var status *statusError
	switch {
	case ops.KindOf(err) == ops.Denied:
		return ops.Errorf(ops.Denied, "%s: %w", l.host.address, err)
	case errors.As(err, &status) && (status.code == 401 || status.code == 403):
		return ops.Errorf(ops.Denied, "%s refuses access (%s): put credentials that may read it into the target's URL", l.host.address, status)
	case errors.As(err, &status) && status.code == 404:
		return ops.Errorf(ops.Unavailable, "%s answers 404: check the path of the target's URL, and that the process serves net/http/pprof", l.host.address)
	case errors.As(err, &status):
		return ops.Errorf(ops.Unavailable, "%s answers %s", l.host.address, status)
	case ops.KindOf(err) == ops.Cancelled:
		return err
	}
	return l.silent(err)
}

// silent is the error for a target that gives no answer. One connection to each is
// kept open: with thousands, the centre may be the one that has none left.
func (l *Link) silent(err error) error {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return ops.Errorf(ops.Exhausted, "%s is not asked: the centre has as many files and connections open as it may (%w): raise that limit (LimitNOFILE, ulimit -n) well above the number of processes without an agent, and start the centre again", l.host.address, err)
	}
	return ops.Errorf(ops.Unavailable, "%s does not answer: %w", l.host.address, err)
}

// parseBase makes of a target's URL the URL of the index page, without what must
// never be shown.
func parseBase(raw string) (base *url.URL, user *url.Userinfo, err error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The error of url.Parse quotes the URL, with its password.
		return nil, nil, ops.Errorf(ops.Invalid, "the target's URL cannot be parsed: use http://host:port/debug/pprof")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Hostname() == "" || u.Opaque != "" {
		return nil, nil, ops.Errorf(ops.Invalid, "the target's URL must be of the form http://host:port/debug/pprof, got scheme %q and host %q", u.Scheme, u.Host)
	}
	p := strings.TrimRight(u.Path, "/")
	if p == "" {
		p = "/debug/pprof"
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: p + "/"}, u.User, nil
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
