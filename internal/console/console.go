// Package console calls the gRPC methods of instances without knowing them
// beforehand: it asks a server, or a descriptor set that was uploaded for it,
// what there is to call, describes the messages well enough to draw a form of
// them, and turns JSON into calls and what comes back into JSON. It must not know
// who asks, whether they may, or that it is written down.
package console

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/opscenter/opscenter/internal/ops"
)

// Conns is the way to the gRPC servers of instances.
type Conns interface {
	// Conn returns a connection to the server of an instance; release is called
	// when it is not used any more. Unavailable if there is no way now, Invalid if
	// the instance never said how, in words that say how it could.
	Conn(ctx context.Context, id ops.InstanceID, r Route) (cc grpc.ClientConnInterface, release func(), err error)
}

// Route is how an instance's server is reached. The zero value is the agent's
// connection, else the address that the instance declares.
type Route struct {
	// Port of the instance's own host to dial rather than what it declares; 0 = none.
	Port int
	// TLS is whether the address is dialled with TLS.
	TLS bool
	// ServerName is the name that the certificate has to have; empty = the host.
	ServerName string
	// SkipVerify takes any certificate.
	SkipVerify bool
}

// Config makes a Console. The zero value of everything but Conns works.
type Config struct {
	Conns Conns
	// Descriptors returns the descriptor set that was uploaded for an instance's
	// service, and its name; nil = none. Reflection is not asked where there is one.
	Descriptors func(context.Context, ops.InstanceID) (*descriptorpb.FileDescriptorSet, string, error)
	// MaxMessageBytes bounds a received message; 0 = 128 MiB.
	MaxMessageBytes int
	// MaxCalls bounds the calls at a time; 0 = 64.
	MaxCalls int
}

// Console calls methods. All methods may be called concurrently.
type Console struct {
	cfg Config

	calls chan struct{}

	mu    sync.Mutex
	known []*catalogue // most recently used first
}

const (
	defaultMaxMessage = 128 << 20
	defaultMaxCalls   = 64
	// keptCatalogues bounds what is kept of servers' descriptors; a large one is
	// a few MB.
	keptCatalogues = 32
	// staleAfter is how long a server that lives is believed to have the methods
	// that it had; a new process is a new instance anyway.
	staleAfter = 10 * time.Minute
)

// New makes a console. It starts nothing.
func New(cfg Config) *Console {
	if cfg.MaxMessageBytes == 0 {
		cfg.MaxMessageBytes = defaultMaxMessage
	}
	if cfg.MaxCalls == 0 {
		cfg.MaxCalls = defaultMaxCalls
	}
	return &Console{cfg: cfg, calls: make(chan struct{}, cfg.MaxCalls)}
}

// Method is something that can be called.
type Method struct {
	// Name is service/method, as on the wire but for the first slash.
	Name                             string
	ClientStreaming, ServerStreaming bool
	// Input and Output are the full names of the messages.
	Input, Output string
	// ReadOnly is whether the method declares idempotency_level = NO_SIDE_EFFECTS;
	// one that says nothing may change anything.
	ReadOnly bool
	// Idempotent is whether it declares that calling twice is as good as once.
	Idempotent bool
	Deprecated bool
	// Comment is what its source says of it, where the descriptors carry that.
	Comment string
}

// Methods is what an instance's server can be asked for, by name.
type Methods struct {
	// Source says how we know: "reflection v1", "reflection v1alpha", or the name
	// of a descriptor set.
	Source  string
	Methods []Method
	// Problems are services that could not be described, in words.
	Problems []string
}

// Methods lists what can be called. fresh asks the server again.
func (c *Console) Methods(ctx context.Context, id ops.InstanceID, r Route, fresh bool) (Methods, error) {
	cat, err := c.catalogue(ctx, id, r, fresh)
	if err != nil {
		return Methods{}, err
	}
	return cat.list, nil
}

// Describe returns the method and the types that its messages are made of.
func (c *Console) Describe(ctx context.Context, id ops.InstanceID, r Route, method string) (Form, error) {
	cat, err := c.catalogue(ctx, id, r, false)
	if err != nil {
		return Form{}, err
	}
	m, err := cat.method(method)
	if err != nil {
		return Form{}, err
	}
	return formOf(m), nil
}

// Method returns what a method is, by any way of writing its name.
func (c *Console) Method(ctx context.Context, id ops.InstanceID, r Route, method string) (Method, error) {
	cat, err := c.catalogue(ctx, id, r, false)
	if err != nil {
		return Method{}, err
	}
	m, err := cat.method(method)
	if err != nil {
		return Method{}, err
	}
	return methodOf(m), nil
}

// catalogue returns the descriptors of an instance's server.
func (c *Console) catalogue(ctx context.Context, id ops.InstanceID, r Route, fresh bool) (*catalogue, error) {
	if !fresh {
		if cat := c.recall(id, r); cat != nil {
			return cat, nil
		}
	}
	cat, err := c.learn(ctx, id, r)
	if err != nil {
		return nil, err
	}
	cat.id, cat.route, cat.at = id, r, time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = slices.DeleteFunc(c.known, func(k *catalogue) bool { return k.id == id && k.route == r })
	c.known = slices.Insert(c.known, 0, cat)
	c.known = c.known[:min(len(c.known), keptCatalogues)]
	return cat, nil
}

func (c *Console) recall(id ops.InstanceID, r Route) *catalogue {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := slices.IndexFunc(c.known, func(k *catalogue) bool { return k.id == id && k.route == r })
	if at < 0 || time.Since(c.known[at].at) > staleAfter {
		return nil
	}
	cat := c.known[at]
	c.known = slices.Insert(slices.Delete(c.known, at, at+1), 0, cat)
	return cat
}

// Forget drops what is known of the instances that match, because a descriptor
// set of theirs came or went.
func (c *Console) Forget(match func(ops.InstanceID) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = slices.DeleteFunc(c.known, func(k *catalogue) bool { return match(k.id) })
}

// enter takes one of the calls at a time.
func (c *Console) enter() (leave func(), err error) {
	select {
	case c.calls <- struct{}{}:
		return func() { <-c.calls }, nil
	default:
		return nil, ops.Errorf(ops.Exhausted, "%d calls are running already: wait for one to end, or cancel one", c.cfg.MaxCalls)
	}
}

// splitMethod takes a method's name as people write it: service/method, with or
// without a slash before, or with a dot.
func splitMethod(name string) (service, method protoreflect.FullName, err error) {
	trimmed := strings.TrimPrefix(name, "/")
	at := strings.LastIndexAny(trimmed, "/")
	if at < 0 {
		at = strings.LastIndexByte(trimmed, '.')
	}
	if at <= 0 || at == len(trimmed)-1 {
		return "", "", ops.Errorf(ops.Invalid, "%q is no method: write package.Service/Method", name)
	}
	return protoreflect.FullName(trimmed[:at]), protoreflect.FullName(trimmed[at+1:]), nil
}

// Next returns the next message to send as JSON, or io.EOF when there is no more.
type Next func(ctx context.Context) ([]byte, error)

// Messages is a Next of messages that are all there.
func Messages(json ...[]byte) Next {
	return func(context.Context) ([]byte, error) {
		if len(json) == 0 {
			return nil, io.EOF
		}
		first := json[0]
		json = json[1:]
		return first, nil
	}
}
