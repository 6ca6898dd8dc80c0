package agent

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// Services are the service's own gRPC services, which the centre's console may
// call over the agent's connection: no port has to be open for it. They are
// described to the centre by reflection, whether or not the service's own server
// has that registered. What may be called, by whom and with which record is the
// centre's matter; what a call may do is decided here, by the interceptors.
type Services struct {
	// Register registers them, as on the service's own server. Nil = none.
	Register func(grpc.ServiceRegistrar)
	// Unary and Stream run around every call, the first outermost.
	Unary  []grpc.UnaryServerInterceptor
	Stream []grpc.StreamServerInterceptor
}

// maxExposedCalls bounds the console's calls at a time, so that a connection
// always has room for a capture.
const maxExposedCalls = 32

const ownServices = "/opscenter.agent.v1."

// exposed puts the guest's manners around the service's own handlers.
type exposed struct {
	agent    *Agent
	activity *tunnelActivity
	room     chan struct{}
}

// options of the server that serves both the agent and the services.
func (s Services) options(a *Agent, activity *tunnelActivity) []grpc.ServerOption {
	if s.Register == nil {
		return nil
	}
	e := &exposed{agent: a, activity: activity, room: make(chan struct{}, maxExposedCalls)}
	unary := []grpc.UnaryServerInterceptor{e.unary}
	for _, i := range s.Unary {
		unary = append(unary, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			if isOwn(info.FullMethod) {
				return h(ctx, req)
			}
			return i(ctx, req, info, h)
		})
	}
	stream := []grpc.StreamServerInterceptor{e.stream}
	for _, i := range s.Stream {
		stream = append(stream, func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			if isOwn(info.FullMethod) {
				return h(srv, ss)
			}
			return i(srv, ss, info, h)
		})
	}
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(unary...), grpc.ChainStreamInterceptor(stream...)}
}

// register adds the services and their description to the agent's server.
func (s Services) register(server *grpc.Server) {
	if s.Register == nil {
		return
	}
	theirs := &theirServices{server: server, names: map[string]bool{}}
	s.Register(theirs)
	if !theirs.names["grpc.reflection.v1.ServerReflection"] && !theirs.names["grpc.reflection.v1alpha.ServerReflection"] {
		reflection.Register(server)
	}
}

// theirServices notes what is registered: the agent's own protocol is nothing
// that somebody could bring.
type theirServices struct {
	server *grpc.Server
	names  map[string]bool
}

// RegisterService implements grpc.ServiceRegistrar.
func (t *theirServices) RegisterService(d *grpc.ServiceDesc, impl any) {
	if t.names[d.ServiceName] || isOwn("/"+d.ServiceName+"/") {
		return // gRPC would end the process
	}
	t.names[d.ServiceName] = true
	t.server.RegisterService(d, impl)
}

func isOwn(method string) bool { return strings.HasPrefix(method, ownServices) }

// begin lets a call in, or says why not.
func (e *exposed) begin() (end func(), err error) {
	if !e.agent.enter() {
		return nil, errClosing()
	}
	select {
	case e.room <- struct{}{}:
	default:
		e.agent.calls.Done()
		return nil, status.Errorf(codes.ResourceExhausted, "%d calls of the console are running on this instance already: wait for one to end", maxExposedCalls)
	}
	idle := e.activity.call()
	return func() {
		idle()
		<-e.room
		e.agent.calls.Done()
	}, nil
}

// caught turns a panic of a handler into a status: on its own server it would
// have ended the process, which the centre must not be able to do.
func (e *exposed) caught(method string, err *error) {
	if r := recover(); r != nil {
		e.agent.log.Error("a method that the console called panicked", slog.String("method", method), slog.String("panic", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
		*err = status.Errorf(codes.Internal, "%s panicked: %v", method, r)
	}
}

func (e *exposed) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (resp any, err error) {
	if isOwn(info.FullMethod) {
		return h(ctx, req)
	}
	end, err := e.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	defer e.caught(info.FullMethod, &err)
	return h(ctx, req)
}

func (e *exposed) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
	if isOwn(info.FullMethod) {
		return h(srv, ss)
	}
	end, err := e.begin()
	if err != nil {
		return err
	}
	defer end()
	defer e.caught(info.FullMethod, &err)
	return h(srv, ss)
}
