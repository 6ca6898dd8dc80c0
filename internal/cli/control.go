package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
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

// controlFlags are those of a run.
type controlFlags struct {
	ttl, timeout, pause                   durationValue
	reason, confirm, key                  string
	all, yes, revert, dryRun, keep, noOne bool
	batch                                 int32
}

const controlLong = `Control looks up and changes running instances: garbage collection, memory and CPU
settings, the log level, profile rates, draining, and whatever the service itself
has registered. ` + "`ops control list SERVICE`" + ` shows what there is.

What changes something needs a --reason, and --yes or an answer on the terminal
that names the target. It is on record before it runs: see ` + "`ops audit`" + `. Of several
instances one goes first, the others follow, and the first failure stops it. With
--ttl a setting goes back by itself, in the process, whatever happens to the
centre.

Arguments are NAME=VALUE, or values in the order of the parameters.`

const controlExample = `  ops control list user-service
  ops control user-service gogc 50 --ttl 15m --all --reason "memory is tight" --yes
  ops control user-service/host-a/4711 log-level debug --ttl 5m --reason "odd logins" --yes
  ops control user-service log-level --revert --all --reason "done" --yes
  ops control gateway kick-slow pending=200 --dry-run --all
  ops control user-service environment --json | jq '.results[0].answer'`

func (p *program) controlCmd() *cobra.Command {
	cmd := p.controlRunCmd("control")
	cmd.Short = "Look up and change running instances"
	cmd.Long, cmd.Example = controlLong, controlExample
	cmd.AddCommand(p.controlListCmd(), p.controlRunCmd("run"))
	return cmd
}

func (p *program) controlListCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "list SERVICE[/INSTANCE]",
		Short:             "List what can be looked up and changed, with the values that hold",
		Example:           "  ops control list user-service\n  ops control list user-service --json | jq -r '.controls[] | select(.mutating) | .name'",
		Args:              takes("a SERVICE"),
		ValidArgsFunction: p.completeServices,
		RunE: p.connected(func(ctx context.Context, c *client, args []string) error {
			sel, err := p.selection(ctx, c, args[0], true)
			if err != nil {
				return err
			}
			res, err := c.controls.ListControls(ctx, connect.NewRequest(&apiv1.ListControlsRequest{Selection: sel}))
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(message{res.Msg})
			}
			return p.printControls(res.Msg)
		}),
	}
}

func (p *program) printControls(l *apiv1.ListControlsResponse) error {
	for _, t := range l.GetTargets() {
		if t.GetProblem() != "" {
			p.note("%s: %s", clean(cmp.Or(t.GetAddress(), t.GetInstanceId())), clean(t.GetProblem()))
		}
	}
	var cells [][]string
	for _, c := range l.GetControls() {
		does := "looks"
		if c.GetMutating() {
			does = "changes"
		}
		cells = append(cells, []string{c.GetName(), does, fmt.Sprintf("%d/%d", len(c.GetOn()), len(l.GetTargets())), valuesOf(c), paramsOf(c), c.GetDescription()})
	}
	if len(cells) == 0 {
		p.note("nothing can be controlled here")
		return nil
	}
	return table(p.Stdout, []string{"NAME", "DOES", "ON", "NOW", "TAKES", "WHAT"}, cells)
}

// valuesOf is what holds of a setting: "100", or "100 (2), 50 until 12:03 (1)".
func valuesOf(c *apiv1.Control) string {
	if !c.GetSetting() {
		return ""
	}
	counts := map[string]int{}
	var order []string
	for _, on := range c.GetOn() {
		v := cmp.Or(on.GetValue(), "unknown")
		if on.GetUnavailable() != "" {
			v = "unavailable"
		}
		if on.GetRevertsAt() != nil {
			v += " until " + on.GetRevertsAt().AsTime().UTC().Format("15:04:05Z")
		}
		if counts[v]++; counts[v] == 1 {
			order = append(order, v)
		}
	}
	if len(order) == 1 {
		return order[0]
	}
	for i, v := range order {
		order[i] = fmt.Sprintf("%s (%d)", v, counts[v])
	}
	return strings.Join(order, ", ")
}

func paramsOf(c *apiv1.Control) string {
	var out []string
	for _, param := range c.GetParams() {
		form := param.GetType()
		if param.GetType() == "enum" {
			form = strings.Join(param.GetChoices(), "|")
		} else if len(param.GetChoices()) > 0 {
			form += "|" + strings.Join(param.GetChoices(), "|")
		}
		text := param.GetName() + "=" + form
		if !param.GetRequired() {
			text = "[" + text + "]"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func (p *program) controlRunCmd(verb string) *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:     verb + " SERVICE[/INSTANCE] NAME [ARGUMENT...]",
		Short:   "Run a control",
		Example: controlExample,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return takes("a SERVICE", "the NAME of a control")(cmd, args)
			}
			return nil
		},
		ValidArgsFunction: p.completeServices,
		RunE: p.connected(func(ctx context.Context, c *client, args []string) error {
			return p.control(ctx, c, args[0], args[1], args[2:], f)
		}),
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.all, "all", false, "on all instances of the service")
	fl.StringVar(&f.reason, "reason", "", "why, in one `sentence`; needed for what changes something")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	fl.StringVar(&f.confirm, "confirm", "", "the target's `name`, instead of --yes: refused if it is not the target of this run")
	fl.Var(&f.ttl, "ttl", "a setting goes back by itself after so long, 1s to 24h")
	fl.BoolVar(&f.revert, "revert", false, "put a setting back to what was there before any control")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what it would do, where the control can")
	fl.BoolVar(&f.noOne, "no-canary", false, "do not begin with one instance alone")
	fl.Int32Var(&f.batch, "batch", 0, "`N` instances at a time after the first (default all at once)")
	fl.Var(&f.pause, "pause", "wait so long between one batch and the next, up to 10m")
	fl.BoolVar(&f.keep, "keep-going", false, "do not stop at an instance where it fails")
	fl.Var(&f.timeout, "timeout", "give up on an instance after so long (default the control's own)")
	fl.StringVar(&f.key, "key", "", "`text` that makes a repetition harmless: the same run under the same key gets the first answer")
	return cmd
}

// selection finds the instances that SERVICE[/INSTANCE] means. Of a service with
// several, all have to be asked for.
func (p *program) selection(ctx context.Context, c *client, what string, all bool) (*apiv1.ControlSelection, error) {
	service, instance, one := strings.Cut(what, "/")
	if service == "" || one && instance == "" {
		return nil, ops.Errorf(ops.Invalid, "%q is neither SERVICE nor SERVICE/INSTANCE: see `ops instances`", what)
	}
	instances, err := c.instances(ctx, p.projectName())
	if err != nil {
		return nil, err
	}
	key, err := findService(instances, service, p.projectName())
	if err != nil {
		return nil, err
	}
	sel := &apiv1.ControlSelection{Project: string(key.Project), Service: string(key.Service)}
	if one {
		i, err := findInstance(instances, key, instance)
		if err != nil {
			return nil, err
		}
		sel.InstanceIds = []string{i.GetId()}
		return sel, nil
	}
	var living []string
	for _, i := range instances {
		if keyOf(i) == key && !isGone(i) {
			living = append(living, i.GetId())
		}
	}
	if len(living) > 1 && !all {
		return nil, ops.Errorf(ops.Invalid, "%s has %d instances: use --all for all of them, or name one as %s/INSTANCE", key, len(living), key.Service)
	}
	return sel, nil
}

func (p *program) control(ctx context.Context, c *client, what, name string, words []string, f controlFlags) error {
	if f.yes && f.confirm != "" {
		return ops.Errorf(ops.Invalid, "--yes and --confirm say the same: use one")
	}
	service, instance, _ := strings.Cut(what, "/")
	if instance != "" && f.all {
		return ops.Errorf(ops.Invalid, "--all asks for several instances, %q is one: leave out one or the other", service+"/"+instance)
	}
	sel, err := p.selection(ctx, c, what, f.all)
	if err != nil {
		return err
	}
	run := &apiv1.ControlRun{
		Selection: sel, Name: name, Revert: f.revert, DryRun: f.dryRun, Ttl: durationOf(f.ttl), Timeout: durationOf(f.timeout), Pause: durationOf(f.pause),
		NoCanary: f.noOne, BatchSize: f.batch, KeepGoing: f.keep,
	}
	if run.Args, err = c.arguments(ctx, sel, name, words); err != nil {
		return err
	}
	preview, err := c.controls.PreviewControl(ctx, connect.NewRequest(&apiv1.PreviewControlRequest{Run: run}))
	if err != nil {
		return err
	}
	req := &apiv1.InvokeControlRequest{Run: run, Reason: f.reason, ExpectInstances: int32(len(preview.Msg.GetTargets())), IdempotencyKey: f.key}
	if req.Confirm, err = p.confirmControl(ctx, preview.Msg, name, f); err != nil {
		return err
	}
	return p.runControl(ctx, c, req, preview.Msg)
}

func durationOf(v durationValue) *durationpb.Duration {
	if !v.set {
		return nil
	}
	return durationpb.New(v.d)
}

// arguments makes the arguments of words, which are NAME=VALUE or values in the
// order of the parameters.
func (c *client) arguments(ctx context.Context, sel *apiv1.ControlSelection, name string, words []string) (map[string]string, error) {
	if len(words) == 0 {
		return nil, nil
	}
	res, err := c.controls.ListControls(ctx, connect.NewRequest(&apiv1.ListControlsRequest{Selection: sel}))
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(res.Msg.GetControls(), func(o *apiv1.Control) bool { return o.GetName() == name })
	if at < 0 {
		var names []string
		for _, o := range res.Msg.GetControls() {
			names = append(names, o.GetName())
		}
		if near := nearest(name, names); len(near) > 0 {
			return nil, ops.Errorf(ops.NotFound, "%s has no control %q: did you mean %s?", sel.GetService(), name, orList(near))
		}
		return nil, ops.Errorf(ops.NotFound, "%s has no control %q: see `ops control list %s`", sel.GetService(), name, sel.GetService())
	}
	params := res.Msg.GetControls()[at].GetParams()
	known := func(name string) bool {
		return slices.ContainsFunc(params, func(q *apiv1.ControlParam) bool { return q.GetName() == name })
	}
	out := map[string]string{}
	next := 0
	for _, w := range words {
		k, v, named := strings.Cut(w, "=")
		if !named || !known(k) { // a value may hold an equals sign
			if next >= len(params) {
				return nil, ops.Errorf(ops.Invalid, "%s does not know what to do with %q: it takes %s", name, w, cmp.Or(paramsOf(res.Msg.GetControls()[at]), "no arguments"))
			}
			k, v = params[next].GetName(), w
			next++
		}
		if _, twice := out[k]; twice {
			return nil, ops.Errorf(ops.Invalid, "%s is given twice: once is enough", k)
		}
		out[k] = v
	}
	return out, nil
}

// confirmControl says whom a run affects and returns the confirmation.
func (p *program) confirmControl(ctx context.Context, preview *apiv1.PreviewControlResponse, name string, f controlFlags) (string, error) {
	if preview.GetRefused() != "" {
		return "", ops.Errorf(ops.Denied, "%s", preview.GetRefused())
	}
	if len(preview.GetConfirmWith()) == 0 {
		return "", nil
	}
	target := preview.GetConfirmWith()[len(preview.GetConfirmWith())-1] // the narrowest
	p.note("%s affects %s of %s/%s%s", clean(name), count(len(preview.GetTargets()), "instance", "instances"),
		clean(preview.GetProject()), clean(preview.GetService()), wavesText(preview.GetWaves()))
	switch {
	case preview.GetNeedsReason() && strings.TrimSpace(f.reason) == "":
		return "", ops.Errorf(ops.Invalid, "%s changes %s of %s: say why with --reason", name, count(len(preview.GetTargets()), "instance", "instances"), preview.GetService())
	case f.confirm != "":
		return f.confirm, nil
	case f.yes:
		return target, nil
	case !isTerminal(p.Stdin):
		return "", ops.Errorf(ops.Invalid, "there is no terminal to ask on: run %s with --yes, or --confirm %s", name, target)
	}
	answer, err := p.ask(ctx, fmt.Sprintf("To run it, type %s: ", clean(orList(preview.GetConfirmWith()))))
	if err != nil {
		return "", err
	}
	if !slices.Contains(preview.GetConfirmWith(), answer) {
		return "", ops.Errorf(ops.Cancelled, "nothing was changed")
	}
	return answer, nil
}

// wavesText is the order of a run: ", 1 first, then 3 and 2".
func wavesText(waves []*apiv1.ControlWave) string {
	if len(waves) < 2 {
		return ""
	}
	if len(waves) > 4 {
		return fmt.Sprintf(", in %d batches", len(waves))
	}
	var sizes []string
	for _, w := range waves[1:] {
		sizes = append(sizes, fmt.Sprint(len(w.GetInstanceIds())))
	}
	return fmt.Sprintf(", %d first, then %s", len(waves[0].GetInstanceIds()), andList(sizes))
}

// ask reads one line from the terminal.
func (p *program) ask(ctx context.Context, question string) (string, error) {
	fmt.Fprint(p.Stderr, question)
	answer := make(chan string, 1)
	go func() {
		// A read from a terminal cannot be taken back: after an interrupt it ends
		// with the process.
		line, _ := bufio.NewReader(p.Stdin).ReadString('\n')
		answer <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(p.Stderr)
		return "", errInterrupted
	case line := <-answer:
		return strings.TrimSpace(line), nil
	}
}

// controlResult is an instance's result as --json shows it.
type controlResult struct {
	InstanceID  string          `json:"instance_id"`
	Result      string          `json:"result"`
	Message     string          `json:"message"`
	Answer      json.RawMessage `json:"answer"`
	Before      string          `json:"before"`
	After       string          `json:"after"`
	RevertsAt   *time.Time      `json:"reverts_at"`
	TookSeconds float64         `json:"took_seconds"`
}

func (p *program) runControl(ctx context.Context, c *client, req *apiv1.InvokeControlRequest, preview *apiv1.PreviewControlResponse) error {
	stream, err := c.controls.InvokeControl(ctx, connect.NewRequest(req))
	if err != nil {
		return c.explain(ctx, err)
	}
	defer stream.Close() //nolint:errcheck // Err tells
	address := map[string]string{}
	for _, t := range preview.GetTargets() {
		address[t.GetInstanceId()] = cmp.Or(t.GetAddress(), t.GetInstanceId())
	}
	var started *apiv1.ControlStarted
	var finished *apiv1.ControlFinished
	results := []controlResult{}
	for stream.Receive() {
		switch e := stream.Msg().GetEvent().(type) {
		case *apiv1.InvokeControlResponse_Started:
			started = e.Started
			if started.GetReplayed() {
				p.note("this key was used before: nothing was run, this is the answer of then")
			}
		case *apiv1.InvokeControlResponse_Result:
			r := e.Result
			results = append(results, resultOf(r))
			if !p.json {
				p.printResult(cmp.Or(address[r.GetInstanceId()], r.GetInstanceId()), r, len(preview.GetTargets()) == 1)
			}
		case *apiv1.InvokeControlResponse_Finished:
			finished = e.Finished
		}
	}
	if err := stream.Err(); err != nil || finished == nil {
		why := c.explain(ctx, err)
		if started == nil && why != nil {
			return why
		}
		return ops.Errorf(cmp.Or(ops.KindOf(why), ops.Unavailable), "the run was cut off: see what became of it with `ops audit list --id %s`", started.GetAuditId())
	}
	if p.json {
		if err := p.printJSON(struct {
			AuditID    string          `json:"audit_id"`
			Replayed   bool            `json:"replayed"`
			Control    string          `json:"control"`
			Project    string          `json:"project"`
			Service    string          `json:"service"`
			Result     string          `json:"result"`
			Message    string          `json:"message"`
			Unrecorded string          `json:"unrecorded"`
			Results    []controlResult `json:"results"`
		}{started.GetAuditId(), started.GetReplayed(), req.GetRun().GetName(), preview.GetProject(), preview.GetService(),
			finished.GetResult(), finished.GetMessage(), finished.GetUnrecorded(), results}); err != nil {
			return err
		}
	}
	if why := finished.GetUnrecorded(); why != "" {
		p.note("%s", clean(why))
	}
	return controlVerdict(req.GetRun().GetName(), finished)
}

// controlVerdict turns how a run ended into the exit code's error.
func controlVerdict(name string, f *apiv1.ControlFinished) error {
	switch f.GetResult() {
	case "ok":
		return nil
	case "partial":
		return &partialError{fmt.Sprintf("%s: %s", name, f.GetMessage())}
	case "cancelled":
		return ops.Errorf(ops.Cancelled, "%s: %s", name, f.GetMessage())
	case "unknown":
		return ops.Errorf(ops.Unavailable, "%s: it may have been carried out: %s", name, f.GetMessage())
	}
	return ops.Errorf(ops.Internal, "%s: %s", name, f.GetMessage())
}

func resultOf(r *apiv1.ControlResult) controlResult {
	out := controlResult{
		InstanceID: r.GetInstanceId(), Result: r.GetResult(), Message: r.GetMessage(), Before: r.GetBefore(), After: r.GetAfter(),
		TookSeconds: r.GetTook().AsDuration().Seconds(), Answer: json.RawMessage("null"),
	}
	if json.Valid([]byte(r.GetAnswerJson())) {
		out.Answer = json.RawMessage(r.GetAnswerJson())
	}
	if r.GetRevertsAt() != nil {
		at := r.GetRevertsAt().AsTime()
		out.RevertsAt = &at
	}
	return out
}

// printResult prints how it went on one instance. Of a single one the answer
// stands alone, readable; of several each has a line.
func (p *program) printResult(name string, r *apiv1.ControlResult, alone bool) {
	if alone && r.GetResult() == "ok" {
		switch {
		case r.GetAnswerJson() != "":
			p.printAnswer(r.GetAnswerJson())
		default:
			fmt.Fprintln(p.Stdout, cleanLines(cmp.Or(r.GetMessage(), "ok")))
		}
		return
	}
	if alone {
		return // the error says it
	}
	line := clean(name) + "  " + clean(r.GetResult())
	for _, more := range []string{r.GetMessage(), r.GetAnswerJson()} {
		if more != "" {
			line += "  " + clean(more)
		}
	}
	fmt.Fprintln(p.Stdout, line)
}

func (p *program) printAnswer(answer string) {
	var v any
	if err := json.Unmarshal([]byte(answer), &v); err != nil {
		fmt.Fprintln(p.Stdout, clean(answer))
		return
	}
	b, err := json.MarshalIndent(v, "", "  ") // escapes control characters
	if err != nil {
		fmt.Fprintln(p.Stdout, clean(answer))
		return
	}
	fmt.Fprintf(p.Stdout, "%s\n", b)
}
