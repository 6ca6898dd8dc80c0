package api

import (
	"context"
	"net/http"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/ops"
)

// finder tells what requests are about.
type finder struct{ Config }

// named is one thing that a request names.
type named struct {
	subject auth.Subject
	// what it is called, for those who may not know that it exists; empty for a
	// project or service, which callers name themselves.
	what    string
	unknown bool // there is no such thing
}

// allowed is nil if the actor holds the permission on all that the request names,
// and on the whole centre if it names nothing. Of what the actor may not even see
// it says the same as of what does not exist.
func (f finder) allowed(ctx context.Context, a auth.Authorizer, need auth.Permission, m proto.Message) error {
	actor := auth.ActorOf(ctx)
	if actor.May(need, auth.Subject{}) {
		return nil // spares the look-ups
	}
	var all []named
	if err := f.collect(ctx, m.ProtoReflect(), &all); err != nil {
		return err
	}
	return judge(a, actor, need, all)
}

func judge(a auth.Authorizer, actor auth.Actor, need auth.Permission, all []named) error {
	if len(all) == 0 {
		return a.Authorize(actor, need)
	}
	for _, n := range all {
		if n.what != "" && (n.unknown || !actor.May(auth.View, n.subject)) {
			return ops.Errorf(ops.NotFound, "there is no %s, or you may not see it", n.what)
		}
		if err := a.Authorize(actor, need, n.subject); err != nil {
			return err
		}
	}
	return nil
}

// collect finds the fields of a message, and of those within it, that name what
// it is about. A capture's instances are the capture's: naming both is naming it.
func (f finder) collect(ctx context.Context, m protoreflect.Message, all *[]named) (err error) {
	fields := m.Descriptor().Fields()
	text := func(name protoreflect.Name) string {
		fd := fields.ByName(name)
		if fd == nil || fd.Kind() != protoreflect.StringKind || fd.IsList() {
			return ""
		}
		return m.Get(fd).String()
	}
	captured := text("capture_id")
	if captured != "" {
		n, err := f.capture(ctx, ops.CaptureID(captured))
		if err != nil {
			return err
		}
		*all = append(*all, n)
	}
	if p, s := text("project"), text("service"); p != "" || s != "" {
		*all = append(*all, named{subject: auth.Subject{Project: ops.ProjectName(p), Service: ops.ServiceName(s)}})
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Name() == "instance_id" && fd.Kind() == protoreflect.StringKind && captured == "":
			*all = append(*all, f.instance(ops.InstanceID(v.String())))
		case fd.Name() == "instance_ids" && fd.IsList() && captured == "":
			for i := range v.List().Len() {
				*all = append(*all, f.instance(ops.InstanceID(v.List().Get(i).String())))
			}
		case fd.IsMap() && fd.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				err = f.collect(ctx, v.Message(), all)
				return err == nil
			})
		case fd.IsList() && fd.Message() != nil:
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = f.collect(ctx, v.List().Get(i).Message(), all)
			}
		case !fd.IsMap() && !fd.IsList() && fd.Message() != nil:
			err = f.collect(ctx, v.Message(), all)
		}
		return err == nil
	})
	return err
}

func (f finder) capture(ctx context.Context, id ops.CaptureID) (named, error) {
	n := named{what: "capture " + asciiOnly(string(id))}
	st, err := f.Captures.Capture(ctx, id)
	switch {
	case ops.KindOf(err) == ops.NotFound, ops.KindOf(err) == ops.Invalid:
		n.unknown = true
	case err != nil:
		return n, err
	}
	n.subject = auth.Subject{Project: st.Project, Service: st.Service}
	return n, nil
}

func (f finder) instance(id ops.InstanceID) named {
	n := named{what: "instance " + asciiOnly(string(id))}
	i, err := f.Fleet.Instance(id)
	n.unknown, n.subject = err != nil, auth.Subject{Project: i.Project, Service: i.Service}
	return n
}

// sees reports whether the caller may look at a service: what lists leave out
// otherwise.
func sees(ctx context.Context, p ops.ProjectName, s ops.ServiceName) bool {
	return holds(ctx, auth.View, p, s)
}

// holds is sees for another permission.
func holds(ctx context.Context, need auth.Permission, p ops.ProjectName, s ops.ServiceName) bool {
	return auth.ActorOf(ctx).May(need, auth.Subject{Project: p, Service: s})
}

// OfCapture returns the check of a route under which files of one capture are
// served: whether the caller holds the permission on it.
func OfCapture(cfg Config, need auth.Permission) func(*http.Request, ops.CaptureID) error {
	return func(r *http.Request, id ops.CaptureID) error {
		actor := auth.ActorOf(r.Context())
		if actor.May(need, auth.Subject{}) {
			return nil
		}
		if !actor.Somewhere(need) {
			return cfg.Auth.Authorize(actor, need)
		}
		n, err := finder{cfg}.capture(r.Context(), id)
		if err != nil {
			return err
		}
		return judge(cfg.Auth, actor, need, []named{n})
	}
}
