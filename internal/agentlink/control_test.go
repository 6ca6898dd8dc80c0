package agentlink

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/opscenter/opscenter/agent"
	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

// A real agent's controls, over its tunnel.
func TestControlsOfAProcess(t *testing.T) {
	c := newCentre(t, Config{})
	a, err := agent.Start(agent.Config{Center: c.address, Project: "color-game", Service: "user-service", SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	release := make(chan struct{})
	defer close(release)
	for _, own := range []agent.Control{
		{Name: "greet", ReadOnly: true, Params: []agent.Param{{Name: "name", Required: true}, {Name: "times", Type: agent.Int, Default: "1", Min: "1", Max: "9"}},
			Func: func(_ context.Context, args agent.Args) (any, error) { return "hello " + args.String("name"), nil }},
		{Name: "panics", Func: func(context.Context, agent.Args) (any, error) { panic("boom") }},
		{Name: "fails", Func: func(context.Context, agent.Args) (any, error) { return nil, errors.New("no such room") }},
		{Name: "hangs", Func: func(context.Context, agent.Args) (any, error) { <-release; return nil, nil }},
	} {
		if err := a.AddControl(own); err != nil {
			t.Fatal(err)
		}
	}
	l := c.roster.next(t).link.(*link)
	list, err := l.Controls(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]ops.Control{}
	for _, c := range list {
		by[c.Name] = c
	}
	if g := by["greet"]; g.Mutating || g.Builtin || len(g.Params) != 2 || g.Params[1].Type != ops.ParamInt || g.Params[1].Default != "1" || g.Params[1].Min != "1" || g.Params[1].Max != "9" {
		t.Errorf("greet is %+v", g)
	}
	if g := by["gogc"]; !g.Mutating || !g.Builtin || !g.Setting || !g.DryRun || g.Value == "" || g.Timeout != 10*time.Second || g.Effect == "" {
		t.Errorf("gogc is %+v", g)
	}
	for _, tt := range []struct {
		call ops.ControlCall
		want string // of the answer or the error
		kind ops.ErrorKind
	}{
		{ops.ControlCall{Name: "greet", Args: map[string]string{"name": "ann"}}, `"hello ann"`, ""},
		{ops.ControlCall{Name: "greet"}, "greet: name is missing: use a text of at most 4096 bytes", ops.Invalid},
		{ops.ControlCall{Name: "panics"}, "the control panicked: boom", ""},
		{ops.ControlCall{Name: "fails"}, "no such room", ""},
		{ops.ControlCall{Name: "nothing"}, `this instance has no control "nothing": list what it has`, ops.NotFound},
		{ops.ControlCall{Name: "hangs", Timeout: 50 * time.Millisecond}, "hangs did not end within 50ms and was given up: it may still go on", ops.Unavailable},
		{ops.ControlCall{Name: "gogc", Args: map[string]string{"percent": "90"}, DryRun: true, TTL: time.Minute}, "would set gogc from " + by["gogc"].Value + " to 90 for 1m0s", ""},
	} {
		got, err := l.Control(t.Context(), tt.call)
		said := string(got.Result) + got.Error + got.Message
		if err != nil {
			said = err.Error()
		}
		if said != tt.want || err == nil && tt.kind != "" || err != nil && ops.KindOf(err) != tt.kind {
			t.Errorf("%+v\n got %s (%v)\nwant %s", tt.call, said, err, tt.want)
		}
	}
}

// An agent of before controls, and one that says more than it may.
func TestControlsOfOtherAgents(t *testing.T) {
	c := newCentre(t, Config{})
	old := newFakeAgent("boot-old")
	old.dial(t, c.address)
	l := c.roster.next(t).link.(*link)
	const want = "the agent of instance boot-old is too old for controls: update it and start the service again"
	if _, err := l.Controls(t.Context()); ops.KindOf(err) != ops.Conflict || err.Error() != want {
		t.Errorf("list says %v", err)
	}
	if _, err := l.Control(t.Context(), ops.ControlCall{Name: "gc"}); ops.KindOf(err) != ops.Conflict || err.Error() != want {
		t.Errorf("invoke says %v", err)
	}
}

func TestWhatAnAgentSaysOfControlsIsBounded(t *testing.T) {
	long := strings.Repeat("é\xff", 5000)
	w := &agentv1.Control{Name: "x", Description: long, Timeout: durationpb.New(time.Hour)}
	for range 500 {
		w.Params = append(w.Params, &agentv1.ControlParam{Name: "p", Choices: make([]string, 1000)})
	}
	got := controlOf(w)
	if len(got.Description) > maxControlText+3 || !utf8.ValidString(got.Description) || len(got.Params) != maxControlParams || len(got.Params[0].Choices) != maxChoices || got.Timeout != longestControl {
		t.Errorf("%d bytes, %d parameters with %d choices, %v", len(got.Description), len(got.Params), len(got.Params[0].Choices), got.Timeout)
	}
	for _, result := range []string{"{", strings.Repeat("1", maxControlResult+1), "\xff"} {
		if _, err := answerOf(&agentv1.InvokeControlResponse{ResultJson: result}); ops.KindOf(err) != ops.Corrupt || err.Error() != "it ran, and what it answered is no JSON of at most 131072 bytes" {
			t.Errorf("%.20q: %v", result, err)
		}
	}
}
