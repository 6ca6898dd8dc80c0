package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
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

// callFlags are what `ops call` takes beside its arguments.
type callFlags struct {
	all, canary, stopOnError, stdin, yes, defaults, describe, fresh bool
	max, parallel                                                   int
	headers                                                         []string
	timeout                                                         time.Duration
	reason, key                                                     string
	port                                                            int
	tls, insecure                                                   bool
	serverName                                                      string
}

const callLong = `Call a gRPC method of a service's instance, whatever the method: its server says by
reflection what it has. Without a METHOD, list what there is to call; with
--describe, say what it takes.

MESSAGE is JSON, as protobuf writes it; none is the empty message. A method that
takes many messages takes several of them, or one a line of standard input with
--stdin, sent as they come. What comes back is one line of JSON each.

A method that does not declare that it has no side effects may change something:
it needs a --reason, and --yes says that the service which is named is meant.`

func (p *program) callCmd() *cobra.Command {
	var f callFlags
	cmd := &cobra.Command{
		Use:   "call SERVICE[/INSTANCE] [METHOD [MESSAGE...]]",
		Short: "Call a gRPC method of an instance",
		Long:  callLong,
		Example: `  ops call game-service                                        what there is to call
  ops call game-service WalletService/GetBalance --describe
  ops call game-service WalletService/GetBalance '{"player":"p1"}'
  ops call game-service WalletService/AddBalance '{"player":"p1","amount":100}' \
      --reason "lost a bet to the outage" --yes --key ticket-4711
  ops call game-service RoomService/Chat --stdin < messages.jsonl`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return ops.Errorf(ops.Invalid, "ops call needs a SERVICE: `%s`", cmd.UseLine())
			}
			return nil
		},
		ValidArgsFunction: p.completeServices,
		RunE:              p.connected(func(ctx context.Context, c *client, args []string) error { return p.call(ctx, c, &f, args) }),
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.all, "all", false, "call every instance that is up")
	fl.IntVar(&f.max, "max", 0, "call at most `N` instances that are up (default 1)")
	fl.BoolVar(&f.canary, "canary", false, "call the first instance alone, and the others only when it answered OK")
	fl.BoolVar(&f.stopOnError, "stop-on-error", false, "call no more instances after one failed")
	fl.IntVar(&f.parallel, "parallel", 0, "`N` instances at a time (default 4)")
	fl.StringArrayVarP(&f.headers, "header", "H", nil, "metadata as `key:value`; base64 where the key ends in -bin (repeatable)")
	fl.DurationVar(&f.timeout, "timeout", 0, "give up after this `time` (default 10s, 10m for streams)")
	fl.BoolVar(&f.stdin, "stdin", false, "read messages from standard input, one a line, and send each as it comes")
	fl.BoolVar(&f.defaults, "defaults", false, "print fields that have their zero value as well")
	fl.BoolVar(&f.describe, "describe", false, "say what METHOD takes and gives, and call nothing")
	fl.BoolVar(&f.fresh, "fresh", false, "ask the server anew what it has")
	fl.StringVar(&f.reason, "reason", "", "why, in one `sentence`, for the record")
	fl.BoolVarP(&f.yes, "yes", "y", false, "yes, change something on the service that is named")
	fl.StringVar(&f.key, "key", "", "idempotency `key`: a second call with it gets the first one's answer, and changes nothing")
	fl.IntVar(&f.port, "port", 0, "dial this `port` of the instance's host rather than use its agent's connection")
	fl.BoolVar(&f.tls, "tls", false, "dial with TLS")
	fl.StringVar(&f.serverName, "server-name", "", "the `name` that the certificate has to have")
	fl.BoolVar(&f.insecure, "insecure", false, "take any certificate")
	return cmd
}

func (f *callFlags) route() *apiv1.CallRoute {
	return &apiv1.CallRoute{Port: uint32(max(f.port, 0)), Tls: f.tls || f.insecure || f.serverName != "", ServerName: f.serverName, SkipVerify: f.insecure}
}

func (p *program) call(ctx context.Context, c *client, f *callFlags, args []string) error {
	targets, key, err := p.callTargets(ctx, c, f, args[0])
	if err != nil {
		return err
	}
	if len(args) == 1 {
		return p.listMethods(ctx, c, f, targets[0])
	}
	if f.describe {
		return p.describeMethod(ctx, c, f, targets, args[1])
	}
	req, err := f.request(targets, args)
	if err != nil {
		return err
	}
	if f.yes {
		req.Confirm = string(key.Service)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.console.Call(ctx, connect.NewRequest(req))
	if err != nil {
		return c.explain(ctx, err)
	}
	defer stream.Close() //nolint:errcheck // its error was Err's
	out := &callAnswer{p: p, several: len(targets) > 1}
	var fed chan error
	for stream.Receive() {
		e := stream.Msg()
		if s := e.GetStarted(); s != nil && f.stdin {
			fed = make(chan error, 1)
			go func() { fed <- p.feed(ctx, c, s.GetCallId()) }()
		}
		if err := out.add(e); err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return callAdvice(c.explain(ctx, err))
	}
	if fed != nil {
		select {
		case err := <-fed: // a line that is no message, rather than the end of the call
			if err != nil && ops.KindOf(err) != ops.NotFound && ops.KindOf(err) != ops.Cancelled {
				return err
			}
		default: // nobody reads what is left of the input
		}
	}
	return out.end()
}

// callAdvice says a guard rail's demand in the words of this program.
func callAdvice(err error) error {
	if ops.KindOf(err) != ops.Invalid {
		return err
	}
	switch text := err.Error(); {
	case strings.Contains(text, "needs a reason"):
		return ops.Errorf(ops.Invalid, "%w (--reason)", err)
	case strings.Contains(text, "needs a confirmation"):
		return ops.Errorf(ops.Invalid, "%w (--yes)", err)
	}
	return err
}

// callTargets returns the instances that are meant.
func (p *program) callTargets(ctx context.Context, c *client, f *callFlags, arg string) (ids []string, key ops.ServiceKey, err error) {
	instances, err := c.instances(ctx, p.projectName())
	if err != nil {
		return nil, key, err
	}
	service, instance, one := strings.Cut(arg, "/")
	if key, err = findService(instances, service, p.projectName()); err != nil {
		return nil, key, err
	}
	if one {
		if f.all || f.max > 0 {
			return nil, key, ops.Errorf(ops.Invalid, "%s is one instance: leave out --all and --max, or the instance", arg)
		}
		i, err := findInstance(instances, key, instance)
		if err != nil {
			return nil, key, err
		}
		return []string{i.GetId()}, key, nil
	}
	for _, i := range instances {
		if keyOf(i) == key && isUp(i) {
			ids = append(ids, i.GetId())
		}
	}
	slices.Sort(ids)
	switch {
	case len(ids) == 0:
		return nil, key, ops.Errorf(ops.Unavailable, "no instance of %s is up: see `ops instances %s --gone`", key, key.Service)
	case f.max < 0:
		return nil, key, ops.Errorf(ops.Invalid, "--max %d is no number of instances: use 1 or more", f.max)
	case !f.all:
		ids = ids[:min(len(ids), cmp.Or(f.max, 1))]
	}
	return ids, key, nil
}

func (f *callFlags) request(targets, args []string) (*apiv1.CallRequest, error) {
	req := &apiv1.CallRequest{
		InstanceIds: targets, Method: args[1], Messages: args[2:], Open: f.stdin, Route: f.route(), Defaults: f.defaults,
		Reason: f.reason, IdempotencyKey: f.key, ExpectInstances: int32(len(targets)), Canary: f.canary, StopOnError: f.stopOnError, Parallel: int32(f.parallel),
		Metadata: map[string]*apiv1.MetadataValues{},
	}
	if f.timeout != 0 {
		req.Timeout = durationpb.New(f.timeout)
	}
	for _, h := range f.headers {
		key, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(key) == "" {
			return nil, ops.Errorf(ops.Invalid, "--header %q is no metadata: write key:value", h)
		}
		key = strings.TrimSpace(key)
		if req.Metadata[key] == nil {
			req.Metadata[key] = &apiv1.MetadataValues{}
		}
		req.Metadata[key].Values = append(req.Metadata[key].Values, strings.TrimSpace(value))
	}
	return req, nil
}

// feed sends the lines of standard input as they come.
func (p *program) feed(ctx context.Context, c *client, id string) error {
	in := bufio.NewScanner(p.Stdin)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		line := strings.TrimSpace(in.Text())
		if line == "" {
			continue
		}
		for {
			_, err := c.console.SendMessage(ctx, connect.NewRequest(&apiv1.SendMessageRequest{CallId: id, Message: &line}))
			if ops.KindOf(err) == ops.Exhausted { // the server takes its time
				select {
				case <-time.After(50 * time.Millisecond):
					continue
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if err != nil {
				return err
			}
			break
		}
	}
	if err := in.Err(); err != nil {
		return ops.Errorf(ops.Invalid, "standard input: %w", err)
	}
	_, err := c.console.SendMessage(ctx, connect.NewRequest(&apiv1.SendMessageRequest{CallId: id, Finish: true}))
	return err
}

func (p *program) listMethods(ctx context.Context, c *client, f *callFlags, id string) error {
	res, err := c.console.ListMethods(ctx, connect.NewRequest(&apiv1.ListMethodsRequest{InstanceId: id, Route: f.route(), Fresh: f.fresh}))
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(message{res.Msg})
	}
	for _, problem := range res.Msg.GetProblems() {
		p.note("not described: %s", clean(problem))
	}
	if len(res.Msg.GetMethods()) == 0 {
		p.note("this server has no method to call")
		return nil
	}
	var cells [][]string
	for _, m := range res.Msg.GetMethods() {
		effect := "may change something"
		if m.GetReadOnly() {
			effect = "read only"
		}
		cells = append(cells, []string{clean(m.GetName()), streaming(m.GetClientStreaming(), clean(m.GetInput())), streaming(m.GetServerStreaming(), clean(m.GetOutput())), effect})
	}
	return table(p.Stdout, []string{"METHOD", "TAKES", "GIVES", "EFFECT"}, cells)
}

func streaming(many bool, name string) string {
	if many {
		return "stream of " + name
	}
	return name
}

func (p *program) describeMethod(ctx context.Context, c *client, f *callFlags, targets []string, method string) error {
	res, err := c.console.DescribeMethod(ctx, connect.NewRequest(&apiv1.DescribeMethodRequest{InstanceIds: targets, Method: method, Route: f.route()}))
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(message{res.Msg})
	}
	m := res.Msg.GetMethod()
	fmt.Fprintf(p.Stdout, "%s(%s) → %s\n", clean(m.GetName()), streaming(m.GetClientStreaming(), clean(m.GetInput())), streaming(m.GetServerStreaming(), clean(m.GetOutput())))
	if m.GetComment() != "" {
		fmt.Fprintf(p.Stdout, "  %s\n", strings.ReplaceAll(clean(m.GetComment()), "\n", "\n  "))
	}
	if why := res.Msg.GetNeeds().GetRefused(); why != "" {
		fmt.Fprintf(p.Stdout, "  %s\n", clean(why))
	}
	names := []string{m.GetInput(), m.GetOutput()}
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		t := res.Msg.GetTypes()[name]
		if t == nil || strings.HasPrefix(name, "google.protobuf.") {
			continue
		}
		delete(res.Msg.GetTypes(), name)
		fmt.Fprintf(p.Stdout, "\n%s\n", clean(name))
		for _, v := range t.GetValues() {
			fmt.Fprintf(p.Stdout, "  %s = %d\n", clean(v.GetName()), v.GetNumber())
		}
		for _, fd := range t.GetFields() {
			fmt.Fprintf(p.Stdout, "  %s\n", clean(fieldText(fd)))
			names = append(names, fd.GetType(), fd.GetMapValue().GetType())
		}
	}
	return nil
}

// fieldText is a field on one line.
func fieldText(f *apiv1.RpcField) string {
	kind := cmp.Or(f.GetType(), f.GetKind())
	if v := f.GetMapValue(); v != nil {
		kind = fmt.Sprintf("map of %s to %s", f.GetMapKey(), cmp.Or(v.GetType(), v.GetKind()))
	}
	if f.GetRepeated() {
		kind = "list of " + kind
	}
	text := f.GetJsonName() + "  " + kind
	if f.GetOneof() != "" {
		text += ", one of " + f.GetOneof()
	}
	if first, _, _ := strings.Cut(f.GetComment(), "\n"); first != "" {
		text += "  — " + strings.TrimSpace(first)
	}
	return text
}

// callAnswer prints what comes, and knows at the end how it went.
type callAnswer struct {
	p       *program
	several bool

	started  *apiv1.CallStarted
	order    []string
	answers  map[string]*callResult
	ok, fail int
}

// callResult is one instance as --json shows it.
type callResult struct {
	Instance string              `json:"instance_id"`
	Code     string              `json:"code"`
	Message  string              `json:"message"`
	Details  []json.RawMessage   `json:"details"`
	Messages []json.RawMessage   `json:"messages"`
	Header   map[string][]string `json:"header"`
	Trailer  map[string][]string `json:"trailer"`
	Seconds  float64             `json:"duration_seconds"`
	Failed   string              `json:"failed"`
	Skipped  bool                `json:"skipped"`
}

func (a *callAnswer) of(id string) *callResult {
	if a.answers == nil {
		a.answers = map[string]*callResult{}
	}
	r := a.answers[id]
	if r == nil {
		r = &callResult{Instance: id, Details: []json.RawMessage{}, Messages: []json.RawMessage{}}
		a.answers[id] = r
		a.order = append(a.order, id)
	}
	return r
}

func (a *callAnswer) add(e *apiv1.CallResponse) error {
	if s := e.GetStarted(); s != nil {
		a.started = s
		if s.GetReplayed() {
			a.p.note("this was called before with the same key: nothing was done again, this is the answer from then")
		}
		return nil
	}
	id := e.GetInstanceId()
	r := a.of(id)
	who := ""
	if a.several {
		who = id + ": "
	}
	switch x := e.GetEvent().(type) {
	case *apiv1.CallResponse_Header:
		r.Header = metadataOf(x.Header.GetMetadata())
	case *apiv1.CallResponse_Received:
		text := json.RawMessage(x.Received.GetJson())
		if a.p.json {
			r.Messages = append(r.Messages, text)
			return nil
		}
		_, err := fmt.Fprintf(a.p.Stdout, "%s%s\n", who, text)
		return err
	case *apiv1.CallResponse_Failed:
		a.fail++
		r.Failed = x.Failed
		a.p.note("%snot called: %s", who, clean(x.Failed))
	case *apiv1.CallResponse_Skipped:
		r.Skipped = true
		a.fail++
		a.p.note("%snot called, because another one failed", who)
	case *apiv1.CallResponse_End:
		r.Code, r.Message, r.Trailer, r.Seconds = x.End.GetCode(), x.End.GetMessage(), metadataOf(x.End.GetTrailer()), x.End.GetDuration().AsDuration().Seconds()
		for _, d := range x.End.GetDetails() {
			r.Details = append(r.Details, json.RawMessage(d))
		}
		if x.End.GetCode() == "OK" {
			a.ok++
			return nil
		}
		a.fail++
		a.p.note("%s%s: %s", who, x.End.GetCode(), clean(x.End.GetMessage()))
		for _, d := range x.End.GetDetails() {
			a.p.note("%s%s", who, clean(d))
		}
	}
	return nil
}

func metadataOf(in map[string]*apiv1.MetadataValues) map[string][]string {
	out := map[string][]string{}
	for k, v := range in {
		out[k] = v.GetValues()
	}
	return out
}

// end prints the JSON, and is an error unless every instance answered OK.
func (a *callAnswer) end() error {
	if a.p.json {
		results := []*callResult{}
		for _, id := range a.order {
			results = append(results, a.answers[id])
		}
		if err := a.p.printJSON(struct {
			CallID    string        `json:"call_id"`
			AuditID   string        `json:"audit_id"`
			Replayed  bool          `json:"replayed"`
			Method    string        `json:"method"`
			Instances []*callResult `json:"instances"`
		}{a.started.GetCallId(), a.started.GetAuditId(), a.started.GetReplayed(), a.started.GetMethod().GetName(), results}); err != nil {
			return err
		}
	}
	switch {
	case a.fail == 0 && a.ok == 0:
		return ops.Errorf(ops.Unavailable, "the call ended without an answer: see whether the centre runs, and try again")
	case a.fail == 0:
		return nil
	case a.ok > 0:
		return &partialError{fmt.Sprintf("%s of %d did not answer OK", count(a.fail, "instance", "instances"), a.ok+a.fail)}
	}
	return errNotOK
}

// errNotOK ends a run whose call was made and refused.
var errNotOK = errors.New("the call did not answer OK")
