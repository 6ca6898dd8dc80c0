// Package guard holds the guard rails that every change of an instance passes:
// a reason, a confirmation that names the target, the project's allow-list, the
// number of instances that the caller was shown, and then the record. Controls
// and gRPC calls enter through the same gate. It does not know how either is
// carried out, nor who the actor is beyond their name.
package guard

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/ops"
)

// Request is what somebody wants to do to instances of one service.
type Request struct {
	Actor string
	// Action is the record's verb: "control.run", "grpc.call".
	Action string
	// Subject is the control's name or the method's full name ("pkg.Service/Method"):
	// what allow-lists are about.
	Subject   string
	Project   ops.ProjectName
	Service   ops.ServiceName
	Instances []ops.InstanceID // who is affected; never empty
	// Mutating is true unless control or method says that it is without side
	// effects. What is not mutating needs no reason, confirmation or allowance, and
	// is recorded only where Record says so.
	Mutating bool
	Record   bool
	DryRun   bool

	Reason string
	// Confirm is the target's name as the person gave it; see Needs.
	Confirm string
	// Expect is the number of instances that the person was shown; 0 = none was.
	Expect int
	Key    string          // idempotency; see audit.Intent
	Body   json.RawMessage // what is asked, for the record
	// Private is what of it must not be kept; see audit.Intent.
	Private string
}

// Needs is what a request must bring before it is let through.
type Needs struct {
	Instances int
	Reason    bool
	// Confirm lists the names of which one has to be given: the service's, or also
	// the instance's where only one is affected. Empty = none.
	Confirm []string
	// Refused says why it will not be let through whatever it brings; empty = it may.
	Refused string
}

// Rails are the guard rails.
type Rails struct {
	record audit.Recorder
	policy atomic.Pointer[Policy]
}

// New makes the gate in front of a record.
func New(record audit.Recorder, policy Policy) *Rails {
	g := &Rails{record: record}
	g.SetPolicy(policy)
	return g
}

// SetPolicy replaces the policy; what has begun goes on.
func (g *Rails) SetPolicy(p Policy) { g.policy.Store(&p) }

// Needs says what the request would have to bring; it reads nothing of what the
// person gave.
func (g *Rails) Needs(r Request) Needs {
	n := Needs{Instances: len(r.Instances)}
	if !r.Mutating {
		return n
	}
	n.Refused = g.policy.Load().refusal(r)
	if r.DryRun {
		return n
	}
	n.Reason = true
	n.Confirm = []string{string(r.Service)}
	if len(r.Instances) == 1 {
		n.Confirm = append(n.Confirm, string(r.Instances[0]))
	}
	return n
}

// Begin lets a request through or says why not: Invalid when something is
// missing, Conflict when the fleet is no longer what the person was shown, Denied
// when the project's policy says no (which is recorded), and whatever
// audit.Recorder says when it cannot be recorded. Only after it returned an
// action without a first answer may anything be run.
//
// For what is neither mutating nor to be recorded the action records nothing.
func (g *Rails) Begin(ctx context.Context, r Request) (audit.Action, error) {
	intent := audit.Intent{
		Actor: r.Actor, Action: r.Action, Subject: r.Subject, Project: r.Project, Service: r.Service, Instances: r.Instances,
		Reason: strings.TrimSpace(r.Reason), Mutating: r.Mutating, DryRun: r.DryRun, Key: r.Key, Request: r.Body, Private: r.Private,
	}
	if r.Key != "" {
		if first, err := g.record.Repeated(ctx, intent); first != nil || err != nil {
			return first, err
		}
	}
	if len(r.Instances) == 0 {
		return nil, ops.Errorf(ops.Invalid, "no instance was chosen: name one, or all of the service")
	}
	if r.Expect > 0 && r.Expect != len(r.Instances) {
		return nil, ops.Errorf(ops.Conflict, "this would affect %s, not %d as was shown: look again and confirm", countOf(len(r.Instances)), r.Expect)
	}
	if !r.Mutating && !r.Record {
		return unrecorded{}, nil
	}
	needs := g.Needs(r)
	if needs.Refused != "" {
		return nil, g.refuse(ctx, intent, needs.Refused)
	}
	if needs.Reason && intent.Reason == "" {
		return nil, ops.Errorf(ops.Invalid, "%s changes %s and needs a reason: say why in one sentence", r.Subject, countOf(len(r.Instances)))
	}
	if len(needs.Confirm) > 0 && !slices.Contains(needs.Confirm, r.Confirm) {
		return nil, ops.Errorf(ops.Invalid, "%s changes %s and needs a confirmation that names the target: confirm with %s", r.Subject, countOf(len(r.Instances)), strings.Join(needs.Confirm, " or "))
	}
	return g.record.Begin(ctx, intent)
}

// refuse records that somebody tried what the policy forbids.
func (g *Rails) refuse(ctx context.Context, intent audit.Intent, why string) error {
	denied := ops.Errorf(ops.Denied, "%s", why)
	intent.Key = "" // a later try, when it is allowed, is another action
	a, err := g.record.Begin(ctx, intent)
	if err != nil {
		return denied // nothing runs, so nothing must be on record
	}
	if err := a.End(context.WithoutCancel(ctx), audit.Outcome{Result: audit.Refused, Message: why}); err != nil {
		return ops.Errorf(ops.Denied, "%s (that this was tried could not be recorded: %w)", why, err)
	}
	return denied
}

func countOf(n int) string {
	if n == 1 {
		return "1 instance"
	}
	return strconv.Itoa(n) + " instances"
}

// unrecorded is an action that needs no record.
type unrecorded struct{}

func (unrecorded) ID() audit.ID                             { return "" }
func (unrecorded) First() (*audit.Outcome, []audit.Step)    { return nil, nil }
func (unrecorded) Step(context.Context, audit.Step) error   { return nil }
func (unrecorded) End(context.Context, audit.Outcome) error { return nil }
