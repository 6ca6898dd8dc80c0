package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jhump/protoreflect/v2/grpcreflect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/opscenter/opscenter/internal/ops"
)

const (
	learnWithin = 10 * time.Second
	// Bounds of what a server may claim to have: far more than any has.
	maxServices = 1000
	maxMethods  = 10_000
	// MaxDescriptorBytes bounds an uploaded descriptor set.
	MaxDescriptorBytes = 16 << 20
)

// catalogue is what is known of a server: all of it is read at once, so that
// nothing is asked while somebody types.
type catalogue struct {
	id    ops.InstanceID
	route Route
	at    time.Time

	list    Methods
	methods map[string]protoreflect.MethodDescriptor
	types   *dynamicpb.Types // for google.protobuf.Any and extensions
}

// learn reads what an instance's server has from its descriptor set, or asks it.
func (c *Console) learn(ctx context.Context, id ops.InstanceID, r Route) (*catalogue, error) {
	if c.cfg.Descriptors != nil {
		set, name, err := c.cfg.Descriptors(ctx, id)
		if err != nil {
			return nil, err
		}
		if set != nil {
			files, err := readDescriptors(set)
			if err != nil {
				return nil, err
			}
			return newCatalogue(files, name, nil)
		}
	}
	cc, release, err := c.cfg.Conns.Conn(ctx, id, r)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, learnWithin)
	defer cancel()
	asked := &askedVersion{ClientConnInterface: cc}
	client := grpcreflect.NewClientAuto(ctx, asked, grpcreflect.WithAllowMissingFileDescriptors())
	defer client.Reset()
	names, err := client.ListServices()
	if err != nil {
		return nil, unreflected(err)
	}
	if len(names) > maxServices {
		return nil, ops.Errorf(ops.Invalid, "the server says that it has %d services: this console shows up to %d; upload a descriptor set with those that matter", len(names), maxServices)
	}
	names = slices.DeleteFunc(names, hidden)
	var problems []string
	files := &protoregistry.Files{}
	for _, name := range names {
		fd, err := client.FileContainingSymbol(name)
		if err == nil {
			err = register(files, fd)
		}
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", name, err))
		}
	}
	if len(names) > 0 && len(problems) == len(names) {
		return nil, ops.Errorf(ops.Invalid, "the server has %d services but describes none of them (%s): upload a descriptor set", len(names), problems[0])
	}
	return newCatalogue(only(files, names), "reflection "+asked.version(), problems)
}

// hidden services are not for calling by hand: what describes the others, and
// the agent, whose captures have rights and a record of their own.
func hidden(service protoreflect.FullName) bool {
	return strings.HasPrefix(string(service), "grpc.reflection.") || strings.HasPrefix(string(service), "opscenter.agent.")
}

// unreflected says why a server could not be asked what it has.
func unreflected(err error) error {
	st, _ := status.FromError(err)
	if st == nil || st.Code() == codes.Unknown {
		var missing interface{ GRPCStatus() *status.Status }
		if errors.As(err, &missing) {
			st = missing.GRPCStatus()
		}
	}
	switch st.Code() {
	case codes.Unimplemented:
		return ops.Errorf(ops.Conflict, "the server does not say what it has: register reflection on it (google.golang.org/grpc/reflection), or upload a descriptor set (protoc --include_imports --descriptor_set_out, or buf build -o): %w", err)
	case codes.Unavailable, codes.DeadlineExceeded:
		return ops.Errorf(ops.Unavailable, "the server could not be asked what it has: %s: try again when it is back", st.Message())
	case codes.Unauthenticated, codes.PermissionDenied:
		return ops.Errorf(ops.Denied, "the server refuses to say what it has (%s): let the centre in, or upload a descriptor set", st.Message())
	}
	return ops.Errorf(ops.Unavailable, "the server could not be asked what it has: %w", err)
}

// askedVersion notes which version of the reflection protocol was answered.
type askedVersion struct {
	grpc.ClientConnInterface
	last string
}

// NewStream implements grpc.ClientConnInterface.
func (a *askedVersion) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	a.last = method
	return a.ClientConnInterface.NewStream(ctx, desc, method, append(opts, grpc.MaxCallRecvMsgSize(MaxDescriptorBytes))...)
}

func (a *askedVersion) version() string {
	if strings.Contains(a.last, "v1alpha") {
		return "v1alpha"
	}
	return "v1"
}

// register adds a file and what it imports. A file that is there stays.
func register(files *protoregistry.Files, fd protoreflect.FileDescriptor) error {
	if _, err := files.FindFileByPath(fd.Path()); err == nil || fd.IsPlaceholder() {
		return nil
	}
	imports := fd.Imports()
	for i := range imports.Len() {
		if err := register(files, imports.Get(i).FileDescriptor); err != nil {
			return err
		}
	}
	return files.RegisterFile(fd)
}

// described is a set of files, and the services of it that the server has.
type described struct {
	files    *protoregistry.Files
	services []protoreflect.ServiceDescriptor
}

func only(files *protoregistry.Files, names []protoreflect.FullName) described {
	out := described{files: files}
	for _, name := range names {
		if d, err := files.FindDescriptorByName(name); err == nil {
			if svc, ok := d.(protoreflect.ServiceDescriptor); ok {
				out.services = append(out.services, svc)
			}
		}
	}
	return out
}

// readDescriptors checks an uploaded set: that it is whole, and has services.
func readDescriptors(set *descriptorpb.FileDescriptorSet) (described, error) {
	files, err := protodesc.FileOptions{AllowUnresolvable: false}.NewFiles(set)
	if err != nil {
		return described{}, ops.Errorf(ops.Invalid, "the descriptor set is not whole (%v): make it with its imports, protoc --include_imports or buf build", err)
	}
	out := described{files: files}
	files.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		for i := range fd.Services().Len() {
			out.services = append(out.services, fd.Services().Get(i))
		}
		return true
	})
	if len(out.services) == 0 {
		return described{}, ops.Errorf(ops.Invalid, "the descriptor set has no service in it: give the files with the services")
	}
	return out, nil
}

// ParseDescriptors reads a descriptor set as protoc and buf write it.
func ParseDescriptors(b []byte) (*descriptorpb.FileDescriptorSet, error) {
	if len(b) > MaxDescriptorBytes {
		return nil, ops.Errorf(ops.Invalid, "the descriptor set is larger than %d MiB: leave out what is not called", MaxDescriptorBytes>>20)
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(b, set); err != nil || len(set.GetFile()) == 0 {
		return nil, ops.Errorf(ops.Invalid, "this is no descriptor set: make one with protoc --include_imports --descriptor_set_out=FILE, or buf build -o FILE.binpb")
	}
	if _, err := readDescriptors(set); err != nil {
		return nil, err
	}
	return set, nil
}

func newCatalogue(d described, source string, problems []string) (*catalogue, error) {
	cat := &catalogue{
		list:    Methods{Source: source, Problems: problems},
		methods: map[string]protoreflect.MethodDescriptor{},
		types:   dynamicpb.NewTypes(d.files),
	}
	for _, svc := range d.services {
		if hidden(svc.FullName()) {
			continue
		}
		for i := range svc.Methods().Len() {
			m := svc.Methods().Get(i)
			out := methodOf(m)
			if cat.methods[out.Name] == nil {
				cat.list.Methods = append(cat.list.Methods, out)
				cat.methods[out.Name] = m
			}
		}
	}
	if len(cat.list.Methods) > maxMethods {
		return nil, ops.Errorf(ops.Invalid, "the server has %d methods: this console shows up to %d; upload a descriptor set with those that matter", len(cat.list.Methods), maxMethods)
	}
	slices.SortFunc(cat.list.Methods, func(a, b Method) int { return cmp.Compare(a.Name, b.Name) })
	return cat, nil
}

func methodOf(m protoreflect.MethodDescriptor) Method {
	o, _ := m.Options().(*descriptorpb.MethodOptions)
	return Method{
		Name:            string(m.Parent().FullName()) + "/" + string(m.Name()),
		ClientStreaming: m.IsStreamingClient(),
		ServerStreaming: m.IsStreamingServer(),
		Input:           string(m.Input().FullName()),
		Output:          string(m.Output().FullName()),
		ReadOnly:        o.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS,
		Idempotent:      o.GetIdempotencyLevel() == descriptorpb.MethodOptions_IDEMPOTENT,
		Deprecated:      o.GetDeprecated(),
		Comment:         comment(m),
	}
}

func comment(d protoreflect.Descriptor) string {
	return strings.TrimSpace(d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments)
}

// method finds a method by any way of writing its name.
func (cat *catalogue) method(name string) (protoreflect.MethodDescriptor, error) {
	service, method, err := splitMethod(name)
	if err != nil {
		return nil, err
	}
	if m := cat.methods[string(service)+"/"+string(method)]; m != nil {
		return m, nil
	}
	// A short service name will do while it is clear whose it is.
	var found []string
	for full := range cat.methods {
		if strings.HasSuffix(full, "."+string(service)+"/"+string(method)) {
			found = append(found, full)
		}
	}
	switch len(found) {
	case 1:
		return cat.methods[found[0]], nil
	case 0:
		return nil, ops.Errorf(ops.NotFound, "there is no method %s/%s: list those there are with `ops call INSTANCE`", service, method)
	}
	slices.Sort(found)
	return nil, ops.Errorf(ops.Invalid, "%s/%s could be %s: write the whole name", service, method, strings.Join(found, " or "))
}
