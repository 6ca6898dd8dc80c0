package agentlink

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

var _ ops.Controllable = (*link)(nil)

// What an agent says of its controls is bounded as everything else it says.
const (
	maxControls      = 256
	maxControlParams = 64
	maxChoices       = 256
	maxControlText   = 2048
	maxControlResult = 128 << 10
	// controlGrace is for the way there and back, beyond the control's own time.
	controlGrace = 5 * time.Second
	// longestControl is how long any control may take.
	longestControl = 5 * time.Minute
)

// Controls implements ops.Controllable.
func (l *link) Controls(ctx context.Context) ([]ops.Control, error) {
	c, done, err := l.use()
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.client.ListControls(ctx, &agentv1.ListControlsRequest{})
	if err != nil {
		return nil, l.uncontrolled(ctx, err)
	}
	var out []ops.Control
	for _, w := range resp.GetControls() {
		if len(out) == maxControls {
			break
		}
		if ops.ValidName(w.GetName()) && !slices.ContainsFunc(out, func(o ops.Control) bool { return o.Name == w.GetName() }) {
			out = append(out, controlOf(w))
		}
	}
	return out, nil
}

// Control implements ops.Controllable.
func (l *link) Control(ctx context.Context, call ops.ControlCall) (ops.ControlAnswer, error) {
	c, done, err := l.use()
	if err != nil {
		return ops.ControlAnswer{}, err
	}
	defer done()
	req := &agentv1.InvokeControlRequest{Name: call.Name, Args: call.Args, Revert: call.Revert, DryRun: call.DryRun, Actor: call.Actor}
	if call.TTL != 0 {
		req.Ttl = durationpb.New(call.TTL)
	}
	most := longestControl
	if call.Timeout > 0 {
		req.Timeout = durationpb.New(call.Timeout)
		most = min(most, call.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, most+controlGrace)
	defer cancel()
	resp, err := c.client.InvokeControl(ctx, req)
	if err != nil {
		return ops.ControlAnswer{}, l.uncontrolled(ctx, err)
	}
	return answerOf(resp)
}

// uncontrolled explains why a control was not run, or may have been.
func (l *link) uncontrolled(ctx context.Context, err error) error {
	if status.Code(err) == codes.Unimplemented {
		return ops.Errorf(ops.Conflict, "the agent of instance %s is too old for controls: update it and start the service again", l.id)
	}
	if isLost(err) {
		return l.lost(ctx, err)
	}
	s, ok := status.FromError(err)
	if !ok {
		return l.lost(ctx, err)
	}
	// The agent's words already say which control and why.
	return ops.Errorf(errorKind(s.Code()), "%s", clip(s.Message(), maxControlText))
}

func controlOf(w *agentv1.Control) ops.Control {
	c := ops.Control{
		Name: w.GetName(), Description: text(w.GetDescription()), Builtin: w.GetBuiltin(), Mutating: w.GetMutating(),
		Effect: text(w.GetEffect()), Undo: text(w.GetUndo()), Setting: w.GetSetting(), Value: text(w.GetValue()), SetTo: text(w.GetSetTo()),
		Original: text(w.GetOriginal()), DryRun: w.GetDryRun(), Unavailable: text(w.GetUnavailable()),
		Timeout: max(0, min(w.GetTimeout().AsDuration(), longestControl)),
	}
	if w.GetRevertsAt() != nil {
		c.RevertsAt = w.GetRevertsAt().AsTime()
	}
	for _, p := range w.GetParams() {
		if len(c.Params) == maxControlParams || !ops.ValidName(p.GetName()) {
			continue
		}
		param := ops.ControlParam{
			Name: p.GetName(), Description: text(p.GetDescription()), Type: paramTypeOf(p.GetType()), Required: p.GetRequired(),
			Default: text(p.GetDefaultValue()), Min: text(p.GetMin()), Max: text(p.GetMax()), Secret: p.GetSecret(),
		}
		for _, choice := range p.GetChoices()[:min(len(p.GetChoices()), maxChoices)] {
			param.Choices = append(param.Choices, text(choice))
		}
		c.Params = append(c.Params, param)
	}
	return c
}

func text(s string) string { return clip(strings.ToValidUTF8(s, "\uFFFD"), maxControlText) }

func paramTypeOf(w agentv1.ControlParamType) ops.ParamType {
	switch w {
	case agentv1.ControlParamType_CONTROL_PARAM_TYPE_INT:
		return ops.ParamInt
	case agentv1.ControlParamType_CONTROL_PARAM_TYPE_FLOAT:
		return ops.ParamFloat
	case agentv1.ControlParamType_CONTROL_PARAM_TYPE_BOOL:
		return ops.ParamBool
	case agentv1.ControlParamType_CONTROL_PARAM_TYPE_DURATION:
		return ops.ParamDuration
	case agentv1.ControlParamType_CONTROL_PARAM_TYPE_SIZE:
		return ops.ParamSize
	case agentv1.ControlParamType_CONTROL_PARAM_TYPE_ENUM:
		return ops.ParamEnum
	}
	return ops.ParamString
}

func answerOf(w *agentv1.InvokeControlResponse) (ops.ControlAnswer, error) {
	a := ops.ControlAnswer{
		Error: text(w.GetError()), Message: text(w.GetMessage()), Before: text(w.GetBefore()), After: text(w.GetAfter()), Took: w.GetTook().AsDuration(),
	}
	if w.GetRevertsAt() != nil {
		a.RevertsAt = w.GetRevertsAt().AsTime()
	}
	switch raw := w.GetResultJson(); {
	case raw == "":
	case len(raw) > maxControlResult || !json.Valid([]byte(raw)):
		return a, ops.Errorf(ops.Corrupt, "it ran, and what it answered is no JSON of at most %d bytes", maxControlResult)
	default:
		a.Result = json.RawMessage(raw)
	}
	return a, nil
}
