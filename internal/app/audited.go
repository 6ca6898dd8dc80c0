package app

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"

	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/examine"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/rules"
)

// controlFleet shows the fleet as the control engine sees it.
type controlFleet struct{ *fleet.Fleet }

func (f controlFleet) Instances(k ops.ServiceKey) []ops.Instance {
	return f.Fleet.Instances(fleet.Filter{Project: k.Project, Service: k.Service})
}

func (f controlFleet) Controllable(id ops.InstanceID) (ops.Controllable, error) {
	l, err := f.Link(id)
	if err != nil {
		return nil, err
	}
	c, ok := l.(ops.Controllable)
	if !ok {
		return nil, ops.Errorf(ops.Conflict, "instance %s has no agent, so it has no controls: let the service import the agent", id)
	}
	return c, nil
}

// auditedCaptures puts on record who starts, ends and deletes captures.
type auditedCaptures struct {
	*capture.Engine
	record *audit.Log
	// keeper stops diagnosing what is deleted: nobody wants its verdict any more.
	keeper *examine.Keeper
}

// recorded runs fn with its intent on record. Only what deletes is mutating in
// the record's sense, but nothing of this runs when it cannot be recorded.
func (a auditedCaptures) recorded(ctx context.Context, in audit.Intent, fn func() (subject string, err error)) error {
	in.Actor = auth.ActorOf(ctx).Name
	act, err := a.record.Begin(ctx, in)
	if err != nil {
		return err
	}
	subject, err := fn()
	out := audit.Outcome{Result: audit.Succeeded, Message: subject}
	if err != nil {
		out = audit.Outcome{Result: audit.Failed, Message: err.Error()}
	}
	// That the outcome is not on record is in the log; what was done was done.
	_ = act.End(context.WithoutCancel(ctx), out)
	return err
}

// of names a capture with its service, where there is such a capture.
func (a auditedCaptures) of(ctx context.Context, action string, id ops.CaptureID, mutating bool) audit.Intent {
	in := audit.Intent{Action: action, Subject: string(id), Mutating: mutating}
	if st, err := a.Capture(ctx, id); err == nil {
		in.Project, in.Service = st.Project, st.Service
	}
	return in
}

// Start implements api.Captures.
func (a auditedCaptures) Start(ctx context.Context, r capture.Request) (c ops.Capture, err error) {
	body, err := json.Marshal(struct {
		Seconds   float64    `json:"seconds,omitempty"`
		Kinds     []ops.Kind `json:"kinds,omitempty"`
		Instances int        `json:"instances,omitempty"`
	}{r.Spec.Duration.Seconds(), r.Spec.Kinds, r.Max})
	if err != nil {
		return ops.Capture{}, err
	}
	err = a.recorded(ctx, audit.Intent{
		Action: "capture.start", Subject: string(r.Service), Project: r.Project, Service: r.Service, Instances: r.Instances, Reason: cut(r.Note), Request: body,
	}, func() (string, error) {
		c, err = a.Engine.Start(ctx, r)
		return string(c.ID), err
	})
	return c, err
}

// cut keeps a note within what a reason may be.
func cut(s string) string { return s[:min(len(s), audit.MaxReasonBytes)] }

// Stop implements api.Captures.
func (a auditedCaptures) Stop(ctx context.Context, id ops.CaptureID) error {
	return a.recorded(ctx, a.of(ctx, "capture.stop", id, false), func() (string, error) { return "", a.Engine.Stop(ctx, id) })
}

// Cancel implements api.Captures.
func (a auditedCaptures) Cancel(ctx context.Context, id ops.CaptureID) error {
	return a.recorded(ctx, a.of(ctx, "capture.cancel", id, false), func() (string, error) { return "", a.Engine.Cancel(ctx, id) })
}

// Delete implements api.Captures.
func (a auditedCaptures) Delete(ctx context.Context, id ops.CaptureID) error {
	in := a.of(ctx, "capture.delete", id, true)
	in.FreesSpace = true
	return a.recorded(ctx, in, func() (string, error) {
		return "", a.keeper.Without(ctx, id, func() error { return a.Engine.Delete(ctx, id) })
	})
}

// Import implements api.Captures.
func (a auditedCaptures) Import(ctx context.Context, bundle io.ReaderAt, size int64, actor string) (c ops.Capture, err error) {
	err = a.recorded(ctx, audit.Intent{Action: "capture.import", Subject: "a bundle"}, func() (string, error) {
		c, err = a.Engine.Import(ctx, bundle, size, actor)
		return string(c.ID), err
	})
	return c, err
}

// auditedRules puts on record who changes what instances watch themselves by.
type auditedRules struct {
	*rules.Center
	record *audit.Log
}

func (a auditedRules) recorded(ctx context.Context, in audit.Intent, fn func() error) error {
	in.Actor, in.Mutating = auth.ActorOf(ctx).Name, true
	act, err := a.record.Begin(ctx, in)
	if err != nil {
		return err
	}
	err = fn()
	out := audit.Outcome{Result: audit.Succeeded}
	if err != nil {
		out = audit.Outcome{Result: audit.Failed, Message: err.Error()}
	}
	// That the outcome is not on record is in the log; what was done was done.
	_ = act.End(context.WithoutCancel(ctx), out)
	return err
}

// Put implements api.Rules.
func (a auditedRules) Put(ctx context.Context, name, before, text string) error {
	return a.recorded(ctx, audit.Intent{Action: "rules.put", Subject: name}, func() error { return a.Center.Put(name, before, text) })
}

// Enable implements api.Rules.
func (a auditedRules) Enable(ctx context.Context, name string, on bool) error {
	action := map[bool]string{true: "rules.enable", false: "rules.disable"}[on]
	return a.recorded(ctx, audit.Intent{Action: action, Subject: name}, func() error { return a.Center.Enable(name, on) })
}

// auditedFiles puts on record who takes raw artifacts and bundles away. Looking
// changes nothing, so a record that cannot be written does not keep people from
// the evidence; the log says so then.
type auditedFiles struct {
	*archive.Archive
	record *audit.Log
	log    *slog.Logger
}

func (a auditedFiles) took(ctx context.Context, subject string, err error) {
	if err != nil {
		return
	}
	act, err := a.record.Begin(ctx, audit.Intent{Actor: auth.ActorOf(ctx).Name, Action: "capture.download", Subject: subject})
	if err == nil {
		err = act.End(context.WithoutCancel(ctx), audit.Outcome{Result: audit.Succeeded})
	}
	if err != nil {
		a.log.WarnContext(ctx, "a download is not on record", "subject", subject, "actor", auth.ActorOf(ctx).Name, "err", err)
	}
}

// OpenArtifact implements api.Files.
func (a auditedFiles) OpenArtifact(ctx context.Context, ref ops.ArtifactRef) (ops.Blob, ops.Artifact, error) {
	blob, artifact, err := a.Archive.OpenArtifact(ctx, ref)
	a.took(ctx, ref.String(), err)
	return blob, artifact, err
}

// Export implements api.Files.
func (a auditedFiles) Export(ctx context.Context, id ops.CaptureID, w io.Writer) error {
	a.took(ctx, string(id), nil)
	return a.Archive.Export(ctx, id, w)
}
