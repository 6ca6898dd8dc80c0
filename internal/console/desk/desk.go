// Package desk is the console with people in front of it: what they call passes
// the guard rails, what changes something is on the record before it runs, what
// they called can be found again, and a conversation stays open between two of
// their messages. It must not know how a call is made, nor whether the person
// holds the permission to call at all.
package desk

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/console"
	"github.com/opscenter/opscenter/internal/guard"
	"github.com/opscenter/opscenter/internal/ops"
)

// Config makes a Desk. All fields are needed but Logger.
type Config struct {
	Conns    console.Conns
	Instance func(ops.InstanceID) (ops.Instance, error)
	Rails    *guard.Rails
	Book     ops.CallBook
	Logger   *slog.Logger // nil = silent
}

// Desk makes calls for people. All methods may be called concurrently.
type Desk struct {
	cfg     Config
	console *console.Console
	entries chan entry
	written chan struct{}

	mu     sync.Mutex
	closed bool
	open   map[CallID]*conversation
	adding sync.WaitGroup // Add is called under mu, before closed
}

// New makes a desk. Close ends it.
func New(cfg Config) *Desk {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Desk{cfg: cfg, entries: make(chan entry, 256), written: make(chan struct{}), open: map[CallID]*conversation{}}
	d.console = console.New(console.Config{Conns: cfg.Conns, Descriptors: d.descriptorsOf})
	go d.write()
	return d
}

// CallID names a call while it runs, and its record afterwards.
type CallID string

// Call is what somebody asks for.
type Call struct {
	Actor     string
	Instances []ops.InstanceID // of one service; at least one
	Method    string
	// Messages are what is sent, as JSON. With Open more may follow by Send, until
	// Finish; that is for one instance and a method that takes many.
	Messages []json.RawMessage
	Open     bool
	Metadata map[string][]string
	Timeout  time.Duration
	Route    console.Route
	Defaults bool
	// MaxJSONBytes cuts received messages; see console.Request.
	MaxJSONBytes int

	// What the guard rails ask for; see guard.Request.
	Reason, Confirm, Key string
	Expect               int

	// Of several instances: Canary calls the first alone and goes on only when it
	// answered OK, Parallel is how many are called at a time (0 = 4, at most 16),
	// StopOnError calls no more of them after one failed.
	Canary, StopOnError bool
	Parallel            int
}

// Event is something that happened. Started comes first and once; the others say
// on which instance.
type Event struct {
	Started  *Started
	Instance ops.InstanceID
	console.Event
	// Failed: the call was not made on the instance.
	Failed error
	// Skipped: it was not tried, because another one failed before.
	Skipped bool
}

// Started says how a running call is called.
type Started struct {
	ID       CallID
	Method   console.Method
	Mutating bool
	// Audit is the record's id of a call that may change something.
	Audit audit.ID
	// Replayed: the call was made before under the same key, and this is the answer
	// that it got then.
	Replayed bool
}

// Methods lists what can be called on an instance.
func (d *Desk) Methods(ctx context.Context, id ops.InstanceID, r console.Route, fresh bool) (console.Methods, error) {
	return d.console.Methods(ctx, id, r, fresh)
}

// Describe returns a method, the types of its messages, and what a call of it
// would have to bring.
func (d *Desk) Describe(ctx context.Context, c Call) (console.Form, guard.Needs, error) {
	who, err := d.target(c.Instances)
	if err != nil {
		return console.Form{}, guard.Needs{}, err
	}
	form, err := d.console.Describe(ctx, c.Instances[0], c.Route, c.Method)
	if err != nil {
		return console.Form{}, guard.Needs{}, err
	}
	return form, d.cfg.Rails.Needs(d.request(c, who, form.Method)), nil
}

// target returns the service that all the instances are of.
func (d *Desk) target(ids []ops.InstanceID) (ops.ServiceKey, error) {
	var key ops.ServiceKey
	if len(ids) == 0 {
		return key, ops.Errorf(ops.Invalid, "no instance was chosen: name one, or several of a service")
	}
	for n, id := range ids {
		inst, err := d.cfg.Instance(id)
		if err != nil {
			return key, err
		}
		switch {
		case n == 0:
			key = inst.Key()
		case key != inst.Key():
			return key, ops.Errorf(ops.Invalid, "instance %s is of %s and %s of %s: call one service at a time", ids[0], key, id, inst.Key())
		case slices.Contains(ids[:n], id):
			return key, ops.Errorf(ops.Invalid, "instance %s was chosen twice", id)
		}
	}
	return key, nil
}

func (d *Desk) request(c Call, who ops.ServiceKey, m console.Method) guard.Request {
	r := guard.Request{
		Actor: c.Actor, Action: "grpc.call", Subject: m.Name, Project: who.Project, Service: who.Service, Instances: c.Instances,
		Mutating: !m.ReadOnly, Reason: c.Reason, Confirm: c.Confirm, Expect: c.Expect, Key: c.Key,
	}
	if r.Mutating || r.Key != "" { // what only looks is not on the record
		r.Body = keep(c, false)
	}
	return r
}

// kept is a call as it is remembered: everything that is needed to make it
// again, but for secrets.
type kept struct {
	Messages []json.RawMessage   `json:"messages,omitempty"`
	Open     bool                `json:"open,omitempty"`
	Metadata map[string][]string `json:"metadata,omitempty"`
	Timeout  string              `json:"timeout,omitempty"`
	Defaults bool                `json:"defaults,omitempty"`
}

// keep returns a call as it is remembered. The record masks what it is given by
// itself, and tells requests apart by what they were before.
func keep(c Call, mask bool) json.RawMessage {
	k := kept{Open: c.Open, Metadata: masked(c.Metadata), Defaults: c.Defaults}
	for _, m := range c.Messages {
		switch {
		case !json.Valid(m): // it will be refused, and told as it was
			m, _ = json.Marshal(string(m))
		case mask:
			m = audit.MaskJSON(m)
		}
		k.Messages = append(k.Messages, m)
	}
	if c.Timeout > 0 {
		k.Timeout = c.Timeout.String()
	}
	b, err := json.Marshal(k)
	if err != nil {
		return nil
	}
	return b
}

func masked(md map[string][]string) map[string][]string {
	if len(md) == 0 {
		return nil
	}
	out := make(map[string][]string, len(md))
	for key, values := range md {
		for _, v := range values {
			if audit.SecretName(key) {
				v = audit.Masked
			}
			out[key] = append(out[key], audit.MaskText(v))
		}
	}
	return out
}

// Call makes a call and tells fn what happens, one event at a time. The error
// says why nothing was called, or what fn returned; what went wrong on an
// instance is an event.
func (d *Desk) Call(ctx context.Context, c Call, fn func(Event) error) error {
	who, err := d.target(c.Instances)
	if err != nil {
		return err
	}
	m, err := d.console.Method(ctx, c.Instances[0], c.Route, c.Method)
	if err != nil {
		return err
	}
	c.Method = m.Name
	if c.Open && (len(c.Instances) > 1 || !m.ClientStreaming) {
		return ops.Errorf(ops.Invalid, "only a call of one instance and of a method that takes many messages can be left open")
	}
	action, err := d.cfg.Rails.Begin(ctx, d.request(c, who, m))
	if err != nil {
		return err
	}
	r := &run{desk: d, call: c, method: m, tell: fn, id: CallID(strings.ToLower(ulid.Make().String())), began: time.Now(), ends: map[ops.InstanceID]*ending{}}
	started := &Started{ID: r.id, Method: m, Mutating: !m.ReadOnly, Audit: action.ID()}
	if first, steps := action.First(); first != nil {
		started.Replayed = true
		return r.replay(started, first, steps)
	}
	leave, err := d.enter(r)
	if err != nil {
		// Begun is begun: that it was not run is written down as well.
		return endWith(ctx, action, audit.Outcome{Result: audit.Refused, Message: err.Error()}, err)
	}
	defer leave()
	err = r.event(Event{Started: started})
	if err == nil {
		err = r.all(ctx, action)
	}
	outcome := r.outcome(err)
	d.remember(r, who, outcome)
	return endWith(ctx, action, outcome, err)
}

// endWith ends an action; an error of the record is worse than one of the call.
func endWith(ctx context.Context, a audit.Action, o audit.Outcome, err error) error {
	if endErr := a.End(context.WithoutCancel(ctx), o); endErr != nil {
		return endErr
	}
	return err
}

// enter makes a run known, and its conversation if it has one.
func (d *Desk) enter(r *run) (leave func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ops.Errorf(ops.Unavailable, "the centre is stopping: try again when it is back")
	}
	d.adding.Add(1)
	if r.call.Open {
		r.talk = newConversation(r.call.Actor)
		d.open[r.id] = r.talk
	}
	return func() {
		d.mu.Lock()
		delete(d.open, r.id)
		d.mu.Unlock()
		d.adding.Done()
	}, nil
}

// descriptorsOf returns what was uploaded for an instance's service.
func (d *Desk) descriptorsOf(ctx context.Context, id ops.InstanceID) (*descriptorpb.FileDescriptorSet, string, error) {
	inst, err := d.cfg.Instance(id)
	if err != nil {
		return nil, "", err
	}
	kept, err := d.cfg.Book.Descriptors(ctx, inst.Project, inst.Service)
	switch {
	case err == nil:
	case ops.KindOf(err) == ops.NotFound:
		return nil, "", nil //nolint:nilerr // the server is asked itself then
	default:
		return nil, "", err
	}
	set, err := console.ParseDescriptors(kept.Body)
	return set, kept.Name, err
}

// worst returns the code to remember of several.
func worst(ends map[ops.InstanceID]*ending) (code codes.Code, message string) {
	for _, id := range slices.SortedFunc(keys(ends), cmp.Compare[ops.InstanceID]) {
		if e := ends[id]; e.code != codes.OK && code == codes.OK {
			code, message = e.code, e.message
		}
	}
	return code, message
}
