package agentlink

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

var _ ops.Ruled = (*link)(nil)

// What an agent says of its rules is bounded as everything else it says.
const (
	maxRuleStates = 64
	maxRuleEvents = 256
	maxKept       = 32
	maxRuleReport = 512 << 10
)

// ruled returns the connection for calls about rules.
func (l *link) ruled() (agentv1.RuleServiceClient, *conn, func(), error) {
	c, done, err := l.use()
	if err != nil {
		return nil, nil, nil, err
	}
	if !c.rules {
		done()
		return nil, nil, nil, ops.Errorf(ops.Conflict, "the agent of instance %s is older than rules: update it", l.id)
	}
	return agentv1.NewRuleServiceClient(c.cc), c, done, nil
}

// SetRules implements ops.Ruled.
func (l *link) SetRules(ctx context.Context, rules []ops.Rule) error {
	client, c, done, err := l.ruled()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req := &agentv1.SetRulesRequest{}
	for _, r := range rules {
		req.Rules = append(req.Rules, ruleProto(r, c.offset))
	}
	if _, err := client.SetRules(ctx, req); err != nil {
		return l.unruled(ctx, err)
	}
	return nil
}

// unruled explains how a call about rules ended.
func (l *link) unruled(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case isLost(err):
		return l.lost(ctx, err)
	case status.Code(err) == codes.Unimplemented:
		return ops.Errorf(ops.Conflict, "the agent of instance %s is older than rules: update it", l.id)
	}
	return fromStatus(err, "rules of instance "+string(l.id))
}

// FollowRules implements ops.Ruled.
func (l *link) FollowRules(ctx context.Context, after int64, fn func(ops.RuleReport)) error {
	client, c, done, err := l.ruled()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.FollowRules(ctx, &agentv1.FollowRulesRequest{AfterEvent: after}, grpc.MaxCallRecvMsgSize(maxRuleReport))
	if err != nil {
		return l.unruled(ctx, err)
	}
	var last time.Time
	eager := 0
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return l.unruled(ctx, err)
		}
		if time.Since(last) > 100*time.Millisecond {
			eager = 0
		} else if eager++; eager > tooEager {
			return ops.Errorf(ops.Corrupt, "instance %s reports its rules far too often: update its agent", l.id)
		}
		last = time.Now()
		fn(reportOf(m, c.offset))
	}
}

// CollectKept implements ops.Ruled.
func (l *link) CollectKept(ctx context.Context, id ops.CaptureID, spec ops.Spec, sink ops.Sink) (ops.CollectSummary, error) {
	c, done, err := l.use()
	if err != nil {
		return ops.CollectSummary{}, err
	}
	defer done()
	col := newCollection(l, id, spec, sink)
	col.kept, col.heard, col.last = true, true, time.Now()
	if err = col.run(ctx, c); err != nil {
		col.abortOpen(err)
		err = col.explain(ctx, err)
	}
	return col.summary, err
}

// ReleaseKept implements ops.Ruled.
func (l *link) ReleaseKept(ctx context.Context, id ops.CaptureID) error {
	c, done, err := l.use()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := c.client.AckArtifact(ctx, &agentv1.AckArtifactRequest{CaptureId: string(id)}); err != nil {
		return l.unruled(ctx, err)
	}
	return nil
}

func ruleProto(r ops.Rule, offset time.Duration) *agentv1.Rule {
	t, b := r.Trigger, r.Bounds
	out := &agentv1.Rule{
		Name: r.Name, Revision: r.Revision,
		Trigger: &agentv1.Trigger{
			Metric: t.Metric, Below: t.Below, Level: t.Level, TimesUsual: t.TimesUsual, Signal: t.Signal,
			Longer: durationpb.New(t.Longer), Quantile: t.Quantile, Times: int32(t.Times), Hold: durationpb.New(t.Hold),
		},
		Bounds: &agentv1.Bounds{
			Cooldown: durationpb.New(b.Cooldown), Budget: int32(b.Budget), Per: durationpb.New(b.Per), StopAfter: int32(b.StopAfter),
			MaxMemory: b.MaxMemory, MaxCpu: b.MaxCPU,
		},
	}
	if t.Within > 0 {
		out.Trigger.Within = durationpb.New(t.Within)
	}
	for _, a := range r.Actions {
		step := &agentv1.Action{Kind: actionKinds[a.Kind], Last: durationpb.New(a.Last), Duration: durationpb.New(a.For)}
		for _, k := range a.Kinds {
			for _, known := range kinds {
				if known.kind == k {
					step.Kinds = append(step.Kinds, known.wire)
				}
			}
		}
		out.Actions = append(out.Actions, step)
	}
	for _, at := range r.FiredBefore {
		out.FiredBefore = append(out.FiredBefore, timestamppb.New(at.Add(offset)))
	}
	return out
}

var actionKinds = map[ops.RuleActionKind]agentv1.ActionKind{
	ops.RuleFlight:   agentv1.ActionKind_ACTION_KIND_FLIGHT,
	ops.RuleSnapshot: agentv1.ActionKind_ACTION_KIND_SNAPSHOT,
	ops.RulePair:     agentv1.ActionKind_ACTION_KIND_PAIR,
	ops.RuleCapture:  agentv1.ActionKind_ACTION_KIND_CAPTURE,
}

var standings = map[agentv1.RuleStanding]ops.RuleStanding{
	agentv1.RuleStanding_RULE_STANDING_RUNNING:   ops.RuleRunning,
	agentv1.RuleStanding_RULE_STANDING_ACTING:    ops.RuleActing,
	agentv1.RuleStanding_RULE_STANDING_THROTTLED: ops.RuleThrottled,
	agentv1.RuleStanding_RULE_STANDING_FINISHED:  ops.RuleFinished,
	agentv1.RuleStanding_RULE_STANDING_REFUSED:   ops.RuleRefused,
}

var ruleEventKinds = map[agentv1.RuleEventKind]ops.RuleEventKind{
	agentv1.RuleEventKind_RULE_EVENT_KIND_FIRED:     ops.RuleFired,
	agentv1.RuleEventKind_RULE_EVENT_KIND_REFUSED:   ops.RuleRefusal,
	agentv1.RuleEventKind_RULE_EVENT_KIND_COLLECTED: ops.RuleCollected,
	agentv1.RuleEventKind_RULE_EVENT_KIND_DROPPED:   ops.RuleDropped,
}

func reportOf(m *agentv1.FollowRulesResponse, offset time.Duration) (r ops.RuleReport) {
	for _, s := range m.GetStates() {
		if len(r.States) == maxRuleStates {
			break
		}
		r.States = append(r.States, ops.RuleState{
			Rule: clip(s.GetRule(), maxText), Revision: clip(s.GetRevision(), maxText), Standing: standings[s.GetStanding()], Reason: clip(s.GetReason(), maxText),
			Value: finite(s.GetValue()), Usual: finite(s.GetUsual()), HoldsSince: onOurClock(s.GetHoldsSince(), offset),
			Fired: count(s.GetFired()), Refused: count(s.GetRefused()), Used: int(count(s.GetUsed())),
			FreeAt: onOurClock(s.GetFreeAt(), offset), LastFired: onOurClock(s.GetLastFired(), offset),
			Reasons: reasonsOf(s.GetReasons()),
		})
	}
	for _, e := range m.GetEvents() {
		kind, known := ruleEventKinds[e.GetKind()]
		if len(r.Events) == maxRuleEvents || !known {
			continue
		}
		id := ops.CaptureID(e.GetCaptureId())
		if !id.Valid() {
			id = ""
		}
		r.Events = append(r.Events, ops.RuleEvent{
			Number: count(e.GetNumber()), At: onOurClock(e.GetAt(), offset), Rule: clip(e.GetRule(), maxText), Kind: kind,
			Reason: clip(e.GetReason(), maxText), Value: finite(e.GetValue()), Capture: id,
			Reasons: reasonsOf(e.GetReasons()),
		})
	}
	for _, k := range m.GetKept() {
		id := ops.CaptureID(k.GetCaptureId())
		if len(r.Kept) == maxKept || !id.Valid() {
			continue
		}
		spec := ops.Spec{
			Duration: min(max(duration(k.GetDuration()), 0), ops.MaxDuration), Last: min(max(duration(k.GetLast()), 0), ops.MaxLast),
			Kinds: slices.Clip(kindsOf(k.GetKinds())), Fidelity: ops.FidelityBalanced, SkipGC: true,
		}
		spec.TraceWindow = min(cmp.Or(spec.Last, spec.Duration), ops.MaxTraceWindow)
		why := reasonsOf(k.GetReasons())
		spec.Trigger = triggerOf(why)
		r.Kept = append(r.Kept, ops.KeptCapture{
			ID: id, Rule: clip(k.GetRule(), maxText), Reason: clip(k.GetReason(), maxText), At: onOurClock(k.GetAt(), offset), Spec: spec,
			Reasons: why,
		})
	}
	f := m.GetFlight()
	r.Flight = ops.FlightState{
		On: f.GetOn(), MinAge: duration(f.GetMinAge()), MaxBytes: count(f.GetMaxBytes()), Since: onOurClock(f.GetSince(), offset),
		LastBytes: count(f.GetLastBytes()), LastTook: duration(f.GetLastTook()), Refused: clip(f.GetRefused(), maxText),
	}
	for _, who := range f.GetWantedBy() {
		if len(r.Flight.WantedBy) < 8 {
			r.Flight.WantedBy = append(r.Flight.WantedBy, clip(who, maxText))
		}
	}
	return r
}

// What a part of a reason is made of, at most.
const (
	maxReasons     = 4
	maxReasonParts = 12
)

func reasonsOf(in []*agentv1.RuleReason) (out []ops.RuleReason) {
	for _, r := range in[:min(len(in), maxReasons)] {
		to := ops.RuleReason{Code: clip(r.GetCode(), 64)}
		for k, v := range r.GetNumbers() {
			if len(to.Numbers) == maxReasonParts {
				break
			}
			if to.Numbers == nil {
				to.Numbers = map[string]float64{}
			}
			to.Numbers[clip(k, 64)] = finite(v)
		}
		for k, v := range r.GetWords() {
			if len(to.Words) == maxReasonParts {
				break
			}
			if to.Words == nil {
				to.Words = map[string]string{}
			}
			to.Words[clip(k, 64)] = clip(v, maxText)
		}
		out = append(out, to)
	}
	return out
}

// triggerOf is the call that a rule fired on; nil = it was none.
func triggerOf(why []ops.RuleReason) *ops.Call {
	for _, r := range why {
		took := time.Duration(math.Round(r.Numbers["took"] * float64(time.Second)))
		if name := r.Words["name"]; name != "" && took > 0 && took <= ops.MaxDuration {
			return &ops.Call{Name: name, Took: took}
		}
	}
	return nil
}
