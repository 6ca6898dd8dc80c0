// Package api is the centre's face to programs: the Connect services of
// opscenter.api.v1, plain HTTP for files, and the guard in front of everything.
// It translates between the wire and the domain's words and decides nothing.
package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/census"
	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/console"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/guide"
	"github.com/opscenter/opscenter/internal/ops"
)

// Fleet is what the API needs to know of instances.
type Fleet interface {
	Instances(fleet.Filter) []ops.Instance
	Instance(ops.InstanceID) (ops.Instance, error)
	Thresholds(ops.ServiceKey) fleet.Thresholds
	Shortages() []fleet.Shortage
	Subscribe() *changes.Subscription[ops.InstanceID]
	History(ctx context.Context, id ops.InstanceID, from, to time.Time) ([]ops.Heartbeat, time.Duration, error)
	WatchMetrics(ctx context.Context, id ops.InstanceID, fn func(ops.Sample)) error
}

// Captures is what the API needs to do with captures.
type Captures interface {
	Start(context.Context, capture.Request) (ops.Capture, error)
	Stop(context.Context, ops.CaptureID) error
	Cancel(context.Context, ops.CaptureID) error
	Pin(context.Context, ops.CaptureID, bool) (capture.Status, error)
	Delete(context.Context, ops.CaptureID) error
	Import(ctx context.Context, bundle io.ReaderAt, size int64, actor string) (ops.Capture, error)
	Capture(context.Context, ops.CaptureID) (capture.Status, error)
	Captures(context.Context, ops.CaptureFilter) ([]capture.Status, error)
	Subscribe() *changes.Subscription[ops.CaptureID]
}

// Files is what the API needs of the archive beyond captures.
type Files interface {
	OpenArtifact(context.Context, ops.ArtifactRef) (ops.Blob, ops.Artifact, error)
	Export(context.Context, ops.CaptureID, io.Writer) error
}

// TraceWindow is a stretch of a trace that the trace viewer opens whole.
type TraceWindow struct {
	FromGeneration, ToGeneration uint64
	Start, Length                time.Duration
	SizeBytes                    int64
}

// Config is what the API serves. All fields are needed but Logger, SpoolDir and Room.
type Config struct {
	Fleet    Fleet
	Captures Captures
	Files    Files
	// TraceWindows lists the windows of a trace and says in words what could not
	// be read.
	TraceWindows func(context.Context, ops.ArtifactRef) ([]TraceWindow, string, error)
	// Profiles answers what GetFlame, GetTop and GetFunction ask.
	Profiles Profiles
	// Timelines answers the questions of TimelineService.
	Timelines Timelines
	// Diagnosis returns what the rules say of a capture, when they have said it.
	Diagnosis func(context.Context, ops.CaptureID) (ops.Findings, error)
	// Goroutines counts the goroutines of a snapshot.
	Goroutines func(context.Context, census.Query) (*census.Census, error)
	// Runtime returns the runtime series of an artifact, checked, as
	// opscenter.runtime/v1.
	Runtime func(context.Context, ops.ArtifactRef) ([]byte, error)
	// Desk makes gRPC calls for people.
	Desk Desk
	// Controls looks up and changes instances; Record is what was done.
	Controls Controls
	Record   Record
	// Channels are where people are told.
	Channels Channels
	// Speedscope writes a profile in speedscope's format.
	Speedscope func(context.Context, ops.ArtifactRef, io.Writer) error
	// Rules are what instances watch themselves by.
	Rules Rules
	// Sources tells what discovery's sources say; nil = there are none.
	Sources Sources
	// Guide teaches: recorded captures and what rules mean.
	Guide *guide.Guide
	// Headline returns what was said last of a capture in a line, NotFound if nothing was.
	Headline func(context.Context, ops.CaptureID) (ops.Headline, error)
	// System answers GetSystem, except for what concerns the caller.
	System func(context.Context) System
	Auth   auth.Authorizer
	// Accounts are who logs in; nil = nobody has to.
	Accounts *auth.Accounts
	// Join makes the tokens that agents join with, nil = they join without; JoinPin
	// is what they know the centre by.
	Join    JoinTokens
	JoinPin string
	// Refused is told of calls that were not let through; nil = nobody is.
	Refused func(ctx context.Context, call string, err error)
	// Retention is how long captures are kept; nil = for ever.
	Retention func() archive.Retention
	// Projects are the games that share the centre, Configuration what it was told.
	Projects      Projects
	Configuration func() ConfigState
	// SpoolDir takes uploads while they arrive; empty = the system's.
	SpoolDir string
	// Room says whether there is room for so many bytes of an upload, as an
	// Exhausted error if not; nil = always.
	Room   func(ctx context.Context, bytes int64) error
	Logger *slog.Logger // nil = silent
}

type server struct {
	Config
	imports atomic.Int32 // that are on their way
}

// New returns the handler of the API. It expects Guard in front of it and paths
// without a base path.
func New(cfg Config) http.Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &server{Config: cfg}
	mux := http.NewServeMux()
	opts := []connect.HandlerOption{
		connect.WithInterceptors(gate{auth: cfg.Auth, rules: declaredRules(), find: finder{cfg}, log: cfg.Logger}),
		connect.WithReadMaxBytes(1 << 20),
	}
	mux.Handle(apiv1connect.NewSystemServiceHandler(s, opts...))
	mux.Handle(apiv1connect.NewFleetServiceHandler(s, opts...))
	mux.Handle(apiv1connect.NewCaptureServiceHandler(s, opts...))
	mux.Handle(apiv1connect.NewWatchServiceHandler(s, opts...))
	mux.Handle(apiv1connect.NewConsoleServiceHandler(consoleServer{s}, append(opts, connect.WithReadMaxBytes(console.MaxDescriptorBytes+1<<20))...))
	mux.Handle(apiv1connect.NewControlServiceHandler(controlServer{s}, opts...))
	mux.Handle(apiv1connect.NewGoroutineServiceHandler(s, opts...))
	mux.Handle(apiv1connect.NewGuideServiceHandler(s, opts...))
	mux.Handle(apiv1connect.NewDiscoveryServiceHandler(s, opts...))
	mux.Handle(apiv1connect.NewRuntimeServiceHandler(s, opts...))
	mux.Handle(apiv1connect.NewProfileServiceHandler(s, opts...))
	mux.Handle(apiv1connect.NewTimelineServiceHandler(s, opts...))
	mux.Handle(apiv1connect.NewAccessServiceHandler(accessServer{s}, opts...))
	mux.Handle(apiv1connect.NewJoinServiceHandler(joinServer{s}, opts...))
	mux.Handle(apiv1connect.NewNotifyServiceHandler(s, opts...))
	mux.Handle(apiv1connect.NewProjectServiceHandler(s, opts...))
	mux.Handle(apiv1connect.NewConfigServiceHandler(s, opts...))
	mux.Handle(apiv1connect.NewTriggerServiceHandler(ruleServer{s}, opts...))
	s.routeFiles(mux)
	return mux
}

var wireCodes = map[ops.ErrorKind]connect.Code{
	ops.Internal: connect.CodeInternal, ops.NotFound: connect.CodeNotFound, ops.Invalid: connect.CodeInvalidArgument,
	ops.Conflict: connect.CodeFailedPrecondition, ops.Unavailable: connect.CodeUnavailable,
	ops.Exhausted: connect.CodeResourceExhausted, ops.Denied: connect.CodePermissionDenied,
	ops.Corrupt: connect.CodeDataLoss, ops.Cancelled: connect.CodeCanceled,
}

// wire maps an error once. What is not one of ours is logged here and kept from
// the caller, who cannot act on it.
func (g gate) wire(ctx context.Context, procedure string, err error) error {
	if err == nil {
		return nil
	}
	var already *connect.Error
	if errors.As(err, &already) {
		return err
	}
	kind := ops.KindOf(err)
	if kind == ops.Internal {
		g.log.ErrorContext(ctx, "request failed", "procedure", procedure, "actor", auth.ActorOf(ctx).Name, "err", err)
		return connect.NewError(connect.CodeInternal, errors.New("the centre failed at this; its log says why"))
	}
	out := connect.NewError(wireCodes[kind], errors.New(err.Error()))
	if wait := retryAfter(err); wait != "" {
		out.Meta().Set("Retry-After", wait)
	}
	return out
}

func (s *server) GetSystem(ctx context.Context, _ *connect.Request[apiv1.GetSystemRequest]) (*connect.Response[apiv1.GetSystemResponse], error) {
	out := s.System(ctx).proto()
	actor := auth.ActorOf(ctx)
	out.Actor = actor.Name
	out.Kinds = kindNames(ops.FullSet())
	if s.Configuration != nil && actor.May(auth.Admin, auth.Subject{}) {
		if c := s.Configuration(); c.Problem != "" {
			out.ConfigProblem, out.ConfigProblemSince, out.ConfigLoaded = c.Problem, ts(c.Since), ts(c.Loaded)
		}
	}
	for _, name := range []apiv1.Permission{apiv1.Permission_PERMISSION_VIEW, apiv1.Permission_PERMISSION_DOWNLOAD, apiv1.Permission_PERMISSION_CAPTURE, apiv1.Permission_PERMISSION_DELETE, apiv1.Permission_PERMISSION_CONTROL, apiv1.Permission_PERMISSION_AUDIT, apiv1.Permission_PERMISSION_ADMIN} {
		if actor.Somewhere(permissions[name]) {
			out.Permissions = append(out.Permissions, name)
		}
	}
	return connect.NewResponse(out), nil
}

func (s *server) ListInstances(ctx context.Context, req *connect.Request[apiv1.ListInstancesRequest]) (*connect.Response[apiv1.ListInstancesResponse], error) {
	out := &apiv1.ListInstancesResponse{}
	for _, i := range s.Fleet.Instances(fleet.Filter{
		Project: ops.ProjectName(req.Msg.GetProject()), Service: ops.ServiceName(req.Msg.GetService()), IncludeGone: req.Msg.GetIncludeGone(),
	}) {
		if sees(ctx, i.Project, i.Service) {
			out.Instances = append(out.Instances, instanceProto(i))
		}
	}
	return connect.NewResponse(out), nil
}

func (s *server) GetInstance(_ context.Context, req *connect.Request[apiv1.GetInstanceRequest]) (*connect.Response[apiv1.GetInstanceResponse], error) {
	i, err := s.Fleet.Instance(ops.InstanceID(req.Msg.GetInstanceId()))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetInstanceResponse{Instance: instanceProto(i), Thresholds: thresholdsProto(s.Fleet.Thresholds(i.Key()))}), nil
}

func (s *server) GetHistory(ctx context.Context, req *connect.Request[apiv1.GetHistoryRequest]) (*connect.Response[apiv1.GetHistoryResponse], error) {
	from, to := fromTS(req.Msg.GetFrom()), fromTS(req.Msg.GetTo())
	if to.IsZero() {
		to = time.Now()
	}
	if from.IsZero() {
		from = to.Add(-time.Hour)
	}
	if from.After(to) {
		return nil, ops.Errorf(ops.Invalid, "the stretch ends (%s) before it begins (%s)", to.Format(time.RFC3339), from.Format(time.RFC3339))
	}
	points, step, err := s.Fleet.History(ctx, ops.InstanceID(req.Msg.GetInstanceId()), from, to)
	if err != nil {
		return nil, err
	}
	out := &apiv1.GetHistoryResponse{Step: dur(step)}
	for _, p := range points {
		out.Points = append(out.Points, heartbeatProto(p))
	}
	return connect.NewResponse(out), nil
}

func (s *server) StartCapture(ctx context.Context, req *connect.Request[apiv1.StartCaptureRequest]) (*connect.Response[apiv1.StartCaptureResponse], error) {
	if len(req.Msg.GetNote()) > 1000 {
		return nil, ops.Errorf(ops.Invalid, "the note is %d bytes long: keep it within 1,000", len(req.Msg.GetNote()))
	}
	r := capture.Request{
		Project: ops.ProjectName(req.Msg.GetProject()), Service: ops.ServiceName(req.Msg.GetService()),
		Max: int(req.Msg.GetMaxInstances()), Spec: specFrom(req.Msg.GetSpec()),
		Actor: auth.ActorOf(ctx).Name, Note: req.Msg.GetNote(),
	}
	for _, id := range req.Msg.GetInstanceIds() {
		r.Instances = append(r.Instances, ops.InstanceID(id))
	}
	c, err := s.Captures.Start(ctx, r)
	if err != nil {
		return nil, err
	}
	s.Logger.InfoContext(ctx, "capture started", "capture", c.ID, "service", c.Project+"/"+ops.ProjectName(c.Service), "instances", len(c.Targets), "actor", r.Actor)
	return connect.NewResponse(&apiv1.StartCaptureResponse{Capture: s.captureProto(ctx, capture.Status{Capture: c}, true)}), nil
}

func (s *server) StopCapture(ctx context.Context, req *connect.Request[apiv1.StopCaptureRequest]) (*connect.Response[apiv1.StopCaptureResponse], error) {
	return connect.NewResponse(&apiv1.StopCaptureResponse{}), s.Captures.Stop(ctx, ops.CaptureID(req.Msg.GetCaptureId()))
}

func (s *server) CancelCapture(ctx context.Context, req *connect.Request[apiv1.CancelCaptureRequest]) (*connect.Response[apiv1.CancelCaptureResponse], error) {
	return connect.NewResponse(&apiv1.CancelCaptureResponse{}), s.Captures.Cancel(ctx, ops.CaptureID(req.Msg.GetCaptureId()))
}

func (s *server) GetCapture(ctx context.Context, req *connect.Request[apiv1.GetCaptureRequest]) (*connect.Response[apiv1.GetCaptureResponse], error) {
	st, err := s.Captures.Capture(ctx, ops.CaptureID(req.Msg.GetCaptureId()))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetCaptureResponse{Capture: s.captureProto(ctx, st, true)}), nil
}

func (s *server) GetDiagnosis(ctx context.Context, req *connect.Request[apiv1.GetDiagnosisRequest]) (*connect.Response[apiv1.GetDiagnosisResponse], error) {
	lang := ops.Lang(req.Msg.GetLang())
	switch lang {
	case "":
		lang = ops.English
	case ops.English, ops.TraditionalChinese:
	default:
		return nil, ops.Errorf(ops.Invalid, "the language %q is not known: use en or zh-TW", lang)
	}
	f, err := s.Diagnosis(ctx, ops.CaptureID(req.Msg.GetCaptureId()))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetDiagnosisResponse{Json: string(f.Bodies[lang]), Rules: f.Rules, Made: timestamppb.New(f.Made)}), nil
}

func (s *server) PinCapture(ctx context.Context, req *connect.Request[apiv1.PinCaptureRequest]) (*connect.Response[apiv1.PinCaptureResponse], error) {
	st, err := s.Captures.Pin(ctx, ops.CaptureID(req.Msg.GetCaptureId()), req.Msg.GetPinned())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.PinCaptureResponse{Capture: s.captureProto(ctx, st, true)}), nil
}

func (s *server) DeleteCapture(ctx context.Context, req *connect.Request[apiv1.DeleteCaptureRequest]) (*connect.Response[apiv1.DeleteCaptureResponse], error) {
	if err := s.Captures.Delete(ctx, ops.CaptureID(req.Msg.GetCaptureId())); err != nil {
		return nil, err
	}
	s.Logger.InfoContext(ctx, "capture deleted", "capture", req.Msg.GetCaptureId(), "actor", auth.ActorOf(ctx).Name)
	return connect.NewResponse(&apiv1.DeleteCaptureResponse{}), nil
}

func (s *server) ListTraceWindows(ctx context.Context, req *connect.Request[apiv1.ListTraceWindowsRequest]) (*connect.Response[apiv1.ListTraceWindowsResponse], error) {
	ref := ops.ArtifactRef{
		Capture: ops.CaptureID(req.Msg.GetCaptureId()), Instance: ops.InstanceID(req.Msg.GetInstanceId()), Name: req.Msg.GetArtifact(),
	}
	if ref.Name == "" {
		ref.Name = ops.KindTrace.FileName()
	}
	if !ref.Valid() {
		return nil, ops.Errorf(ops.Invalid, "%q is not the name of an artifact", ref)
	}
	windows, loss, err := s.TraceWindows(ctx, ref)
	if err != nil {
		return nil, err
	}
	out := &apiv1.ListTraceWindowsResponse{Loss: loss}
	for _, w := range windows {
		out.Windows = append(out.Windows, &apiv1.TraceWindow{
			FromGeneration: w.FromGeneration, ToGeneration: w.ToGeneration, Start: dur(w.Start), Length: dur(w.Length),
			SizeBytes: w.SizeBytes, Path: traceWindowPath(ref, w),
		})
	}
	return connect.NewResponse(out), nil
}
