package api

import (
	"context"
	"log/slog"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/ops"
)

// rule is what a procedure declares: the permission, and on what.
type rule struct {
	need  auth.Permission // empty with SCOPE_SELF
	scope apiv1.Scope
}

// declaredRules reads from the schema what each procedure needs. One that
// declares nothing, or something this program does not know, is not in it.
func declaredRules() map[string]rule {
	rules := map[string]rule{}
	protoregistry.GlobalFiles.RangeFilesByPackage("opscenter.api.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			svc := f.Services().Get(i)
			for j := range svc.Methods().Len() {
				m := svc.Methods().Get(j)
				declared, _ := proto.GetExtension(m.Options(), apiv1.E_Permission).(apiv1.Permission)
				scope, _ := proto.GetExtension(m.Options(), apiv1.E_Scope).(apiv1.Scope)
				need, ok := permissions[declared]
				if scope == apiv1.Scope_SCOPE_SELF {
					need, ok = "", declared == apiv1.Permission_PERMISSION_UNSPECIFIED
				}
				if ok {
					rules["/"+string(svc.FullName())+"/"+string(m.Name())] = rule{need, scope}
				}
			}
		}
		return true
	})
	return rules
}

// gate lets calls through that the actor may make, and turns our errors into
// the wire's.
type gate struct {
	auth  auth.Authorizer
	rules map[string]rule
	find  finder
	log   *slog.Logger
}

// enter is what can be said of a call before its request was read.
func (g gate) enter(ctx context.Context, procedure string) (rule, error) {
	r, ok := g.rules[procedure]
	actor := auth.ActorOf(ctx)
	switch {
	case !ok:
		return r, ops.Errorf(ops.Denied, "%s declares no permission: it is closed to everyone", procedure)
	case r.scope == apiv1.Scope_SCOPE_SELF && actor.Name != "", r.scope != apiv1.Scope_SCOPE_SELF && actor.Somewhere(r.need):
		return r, nil
	}
	return r, g.auth.Authorize(actor, r.need)
}

// check is the rest: whether the actor holds the permission on what the request
// names.
func (g gate) check(ctx context.Context, r rule, msg any) error {
	switch r.scope {
	case apiv1.Scope_SCOPE_FILTERED, apiv1.Scope_SCOPE_ANYTHING, apiv1.Scope_SCOPE_SELF:
		return nil
	}
	m, ok := msg.(proto.Message)
	if !ok {
		return ops.Errorf(ops.Denied, "what the request is about cannot be told: it is closed to everyone")
	}
	return g.find.allowed(ctx, g.auth, r.need, m)
}

func (g gate) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		procedure := req.Spec().Procedure
		r, err := g.enter(ctx, procedure)
		if err == nil {
			err = g.check(ctx, r, req.Any())
		}
		if err != nil {
			return nil, g.refuse(ctx, procedure, err)
		}
		resp, err := next(ctx, req)
		return resp, g.wire(ctx, procedure, err)
	}
}

func (g gate) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		procedure := conn.Spec().Procedure
		r, err := g.enter(ctx, procedure)
		if err != nil {
			return g.refuse(ctx, procedure, err)
		}
		return g.wire(ctx, procedure, next(ctx, &gatedConn{StreamingHandlerConn: conn, gate: g, rule: r, ctx: ctx, looked: time.Now()}))
	}
}

func (g gate) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// refuse answers a call that was not let through, and has it put on record.
func (g gate) refuse(ctx context.Context, procedure string, err error) error {
	if g.find.Refused != nil && ops.KindOf(err) == ops.Denied {
		g.find.Refused(ctx, procedure, err)
	}
	return g.wire(ctx, procedure, err)
}

// lookAgain is how often a stream asks whether its actor is still welcome: as
// long may somebody watch on who was logged out.
const lookAgain = 5 * time.Second

// gatedConn checks the request of a stream when it was read, and its actor from
// time to time.
type gatedConn struct {
	connect.StreamingHandlerConn
	gate   gate
	rule   rule
	ctx    context.Context //nolint:containedctx // the stream's own
	looked time.Time
}

func (c *gatedConn) Receive(msg any) error {
	if err := c.StreamingHandlerConn.Receive(msg); err != nil {
		return err
	}
	if err := c.gate.check(c.ctx, c.rule, msg); err != nil {
		return c.gate.refuse(c.ctx, c.Spec().Procedure, err)
	}
	return nil
}

func (c *gatedConn) Send(msg any) error {
	if now := time.Now(); now.Sub(c.looked) >= lookAgain {
		c.looked = now
		if still, ok := c.gate.auth.(interface {
			Still(context.Context, auth.Actor) error
		}); ok {
			if err := still.Still(c.ctx, auth.ActorOf(c.ctx)); err != nil {
				return connect.NewError(connect.CodeUnauthenticated, err)
			}
		}
	}
	return c.StreamingHandlerConn.Send(msg)
}
