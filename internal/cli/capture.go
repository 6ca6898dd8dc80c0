package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

// patience is how long a running capture's centre may be away before ops gives
// up waiting: a restart of the centre fits in.
const patience = time.Minute

type captureFlags struct {
	duration, traceWindow durationValue
	last                  durationValue
	kinds                 []string
	fidelity, note        string
	all, noWait           bool
	max                   int32
}

func (p *program) captureCmd() *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use:   "capture SERVICE[/INSTANCE]",
		Short: "Capture profiles and a trace of a service, all at once",
		Long: `Capture collects CPU, heap, allocation, goroutine, block and mutex profiles, an
execution trace and runtime metrics over one window, from one instance of the
service, from the named one, or with --all or --max from many at the same time.

Progress goes to standard error; standard output gets the capture's id alone.
Ctrl-C stops the window early and keeps what was collected; a second Ctrl-C
cancels and drops it. The exit code is 4 when the capture lacks something, which
is then listed.`,
		Example: `  ops capture user-service
  ops capture user-service --all -d 10s --note "after the deploy"
  ops capture user-service/host-a/4711 --kinds cpu,trace --trace-window 10s
  ops capture game-service --all --last 5s     what the flight recorders hold of it
  ops open "$(ops capture game-service)"`,
		Args:              takes("a SERVICE"),
		ValidArgsFunction: p.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			defer c.close()
			return p.capture(cmd.Context(), c, args[0], f)
		},
	}
	fl := cmd.Flags()
	fl.VarP(&f.duration, "duration", "d", "length of the window, 1s to 10m (default 30s)")
	fl.Var(&f.last, "last", "instead of a window to come, the last so many seconds out of the flight recorders, 1s to 1m")
	fl.StringSliceVar(&f.kinds, "kinds", nil, "only these `kinds`, separated by commas: "+kindList())
	fl.BoolVar(&f.all, "all", false, "all instances that are up")
	fl.Int32Var(&f.max, "max", 0, "at most `N` instances")
	fl.StringVar(&f.fidelity, "fidelity", "", "`full` or balanced: every block and mutex event, or a sample of them, for a busy target that must not slow down (default full)")
	fl.Var(&f.traceWindow, "trace-window", "the last part of the window that the trace covers, up to 30s (default 5s)")
	fl.StringVar(&f.note, "note", "", "`text` kept with the capture")
	fl.BoolVar(&f.noWait, "no-wait", false, "print the id as soon as the capture has begun")
	return cmd
}

func kindList() string {
	var words []string
	for _, k := range ops.FullSet() {
		words = append(words, string(k))
	}
	return strings.Join(words, ", ")
}

// request checks what can be checked here and returns what to ask of the centre:
// only what the user said, so that the centre's own defaults hold.
func (f captureFlags) request(instance string) (*apiv1.StartCaptureRequest, error) {
	switch {
	case instance != "" && (f.all || f.max != 0):
		return nil, ops.Errorf(ops.Invalid, "--all and --max ask for several instances, %q is one: leave out one or the other", instance)
	case f.all && f.max != 0:
		return nil, ops.Errorf(ops.Invalid, "--all and --max contradict each other: use one")
	case f.max < 0:
		return nil, ops.Errorf(ops.Invalid, "--max %d is out of range: use 1 or more", f.max)
	case f.duration.set && f.duration.d == 0: // which would mean "as the centre likes"
		return nil, ops.Errorf(ops.Invalid, "duration 0s is out of range: use 1s or more")
	case f.last.set && (f.duration.set || f.traceWindow.set):
		return nil, ops.Errorf(ops.Invalid, "--last is about what is over, --duration and --trace-window about what is to come: use one or the other")
	case f.last.set && f.last.d == 0:
		return nil, ops.Errorf(ops.Invalid, "the last 0s cannot be had: use 1s or more")
	case f.traceWindow.set && f.traceWindow.d == 0:
		return nil, ops.Errorf(ops.Invalid, "trace window 0s is out of range: use 1s or more, or leave trace out of --kinds")
	}
	spec := ops.Spec{Duration: f.duration.d, Fidelity: ops.Fidelity(f.fidelity), TraceWindow: f.traceWindow.d, Last: f.last.d}
	for _, k := range f.kinds {
		spec.Kinds = append(spec.Kinds, ops.Kind(strings.TrimSpace(k)))
	}
	if _, err := spec.Normalize(); err != nil {
		return nil, err
	}
	req := &apiv1.StartCaptureRequest{MaxInstances: f.max, Note: f.note, Spec: &apiv1.CaptureSpec{Fidelity: f.fidelity}}
	for _, k := range spec.Kinds {
		req.Spec.Kinds = append(req.Spec.Kinds, string(k))
	}
	if f.duration.d != 0 {
		req.Spec.Duration = durationpb.New(f.duration.d)
	}
	if f.last.d != 0 {
		req.Spec.Last = durationpb.New(f.last.d)
	}
	if f.traceWindow.d != 0 {
		req.Spec.TraceWindow = durationpb.New(f.traceWindow.d)
	}
	return req, nil
}

func (p *program) capture(ctx context.Context, c *client, what string, f captureFlags) error {
	service, instance, oneInstance := strings.Cut(what, "/")
	if service == "" || oneInstance && instance == "" {
		return ops.Errorf(ops.Invalid, "%q is neither SERVICE nor SERVICE/INSTANCE: see `ops instances`", what)
	}
	req, err := f.request(instance)
	if err != nil {
		return err
	}

	startCtx, done := p.interruptible(ctx)
	defer done()
	if err := p.aim(startCtx, c, req, service, instance, f.all); err != nil {
		return err
	}
	res, err := c.captures.StartCapture(startCtx, connect.NewRequest(req))
	done()
	if err != nil {
		if ops.KindOf(err) == ops.Cancelled {
			return ops.Errorf(ops.Cancelled, "interrupted before the centre answered: see `ops captures` for whether the capture began")
		}
		return err
	}
	capture := res.Msg.GetCapture()
	if capture.GetId() == "" {
		return ops.Errorf(ops.Internal, "the centre answered without a capture: is it older than this ops?")
	}
	p.note("capture %s: %v of %s/%s on %s", capture.GetId(), capture.GetSpec().GetDuration().AsDuration(),
		clean(capture.GetProject()), clean(capture.GetService()), count(len(capture.GetTargets()), "instance", "instances"))
	if f.noWait {
		return p.printCapture(capture)
	}

	capture, err = p.wait(ctx, c, capture)
	if err != nil {
		return err
	}
	p.summarizeCapture(capture)
	return p.verdict(capture)
}

// aim fills in which instances of which service the request is for.
func (p *program) aim(ctx context.Context, c *client, req *apiv1.StartCaptureRequest, service, instance string, all bool) error {
	instances, err := c.instances(ctx, p.projectName())
	if err != nil {
		return err
	}
	key, err := findService(instances, service, p.projectName())
	if err != nil {
		return err
	}
	req.Project, req.Service = string(key.Project), string(key.Service)
	if instance != "" {
		i, err := findInstance(instances, key, instance)
		if err != nil {
			return err
		}
		req.InstanceIds = []string{i.GetId()}
		return nil
	}
	up := 0
	for _, i := range instances {
		if keyOf(i) == key && isUp(i) {
			up++
		}
	}
	if up == 0 {
		return ops.Errorf(ops.NotFound, "no instance of %s is up: see `ops instances %s --gone` for how they are", key, key.Service)
	}
	if !all && req.MaxInstances == 0 {
		req.MaxInstances = 1
		if up > 1 {
			p.note("%d instances of %s are up, capturing one of them: use --all for all, or name one as %s/INSTANCE", up, key, key.Service)
		}
	}
	return nil
}

// wait follows a capture until it has ended. The first interrupt stops it, the
// second cancels it, the third leaves it alone.
func (p *program) wait(ctx context.Context, c *client, capture *apiv1.Capture) (*apiv1.Capture, error) {
	view := p.watchTargets(capture)
	defer view.close()
	id := capture.GetId()
	tick := time.NewTicker(p.PollEvery)
	defer tick.Stop()
	interrupts := 0
	var awaySince time.Time
	for {
		select {
		case <-ctx.Done():
			return nil, ops.Errorf(ops.Cancelled, "interrupted: capture %s goes on without you", id)
		case <-p.signals:
			var err error
			switch interrupts++; interrupts {
			case 1:
				view.say("stopping capture %s and keeping what was collected: Ctrl-C again cancels it and drops everything", id)
				_, err = c.captures.StopCapture(ctx, connect.NewRequest(&apiv1.StopCaptureRequest{CaptureId: id}))
			case 2:
				view.say("cancelling capture %s", id)
				_, err = c.captures.CancelCapture(ctx, connect.NewRequest(&apiv1.CancelCaptureRequest{CaptureId: id}))
			default:
				return nil, ops.Errorf(ops.Cancelled, "interrupted: see `ops captures` for how capture %s ends", id)
			}
			// One that ended meanwhile needs no stopping.
			if k := ops.KindOf(err); err != nil && k != ops.NotFound && k != ops.Conflict {
				view.say("%s", clean(err.Error()))
			}
		case <-tick.C:
			now, err := c.capture(ctx, id)
			switch {
			case err == nil:
				awaySince = time.Time{}
				view.update(now)
				if ended(now.GetState()) {
					return now, nil
				}
			case ops.KindOf(err) != ops.Unavailable:
				return nil, err
			case awaySince.IsZero():
				awaySince = p.Now()
				view.say("the centre is away, waiting for it (%s)", clean(err.Error()))
			case p.Now().Sub(awaySince) >= patience:
				return nil, ops.Errorf(ops.Unavailable, "the centre has been away for %v: once it is back, `ops captures` says what became of capture %s", patience, id)
			}
		}
	}
}

func ended(s apiv1.CaptureState) bool {
	return ops.CaptureState(word(s)).Ended()
}

// summarizeCapture tells what came of each target and what is missing.
func (p *program) summarizeCapture(c *apiv1.Capture) {
	for _, t := range c.GetTargets() {
		var size int64
		for _, a := range t.GetArtifacts() {
			size += a.GetSizeBytes()
		}
		line := fmt.Sprintf("%s: %s, %s, %s", targetName(t), word(t.GetState()), count(len(t.GetArtifacts()), "file", "files"), bytesText(size))
		if t.GetStoppedEarly() {
			line += ", stopped early"
		}
		if r := t.GetReason(); r != "" {
			line += ": " + r
		}
		p.note("%s", clean(line))
		losses := slices.Clone(t.GetLosses())
		for _, a := range t.GetArtifacts() {
			losses = append(losses, a.GetLosses()...)
		}
		said := map[string]bool{}
		for _, l := range losses {
			line := "  " + strings.TrimPrefix(fmt.Sprintf("%s: %s", cmp.Or(l.GetKind(), "all"), cmp.Or(l.GetMessage(), l.GetReason())), "all: ")
			if !said[line] {
				said[line] = true
				p.note("%s", clean(line))
			}
		}
	}
}

// targetName is how people know the instance of a target.
func targetName(t *apiv1.Target) string {
	return cmp.Or(t.GetInstance().GetAddress(), t.GetInstance().GetId())
}

// verdict prints the capture as the answer, if there is something in it, and
// returns an error for what did not go well.
func (p *program) verdict(c *apiv1.Capture) error {
	because := ""
	if c.GetReason() != "" {
		because = ": " + c.GetReason()
	}
	keep := p.json
	var err error
	switch c.GetState() {
	case apiv1.CaptureState_CAPTURE_STATE_DONE:
		keep = true
		if isTerminal(p.Stderr) {
			p.note("look at it with `ops open %s`", c.GetId())
		}
	case apiv1.CaptureState_CAPTURE_STATE_PARTIAL:
		keep = true
		err = &partialError{fmt.Sprintf("capture %s is partial%s", c.GetId(), because)}
	case apiv1.CaptureState_CAPTURE_STATE_CANCELLED:
		err = ops.Errorf(ops.Cancelled, "capture %s was cancelled%s", c.GetId(), because)
	default:
		err = ops.Errorf(ops.Internal, "capture %s %s%s", c.GetId(), word(c.GetState()), because)
	}
	if keep {
		if perr := p.printCapture(c); perr != nil {
			return perr
		}
	}
	return err
}

// printCapture answers with the capture's id.
func (p *program) printCapture(c *apiv1.Capture) error {
	if p.json {
		return p.printJSON(map[string]any{"capture": message{c}})
	}
	_, err := fmt.Fprintln(p.Stdout, clean(c.GetId()))
	return err
}
