package guard

import (
	"context"
	"testing"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/ops"
)

// notes is a record in memory.
type notes struct {
	begun []audit.Intent
	ended []audit.Outcome
	first *audit.Outcome
}

func (n *notes) Begin(_ context.Context, in audit.Intent) (audit.Action, error) {
	n.begun = append(n.begun, in)
	return noted{n}, nil
}

func (n *notes) Repeated(context.Context, audit.Intent) (audit.Action, error) {
	if n.first == nil {
		return nil, nil
	}
	return noted{n}, nil
}

type noted struct{ *notes }

func (noted) ID() audit.ID                            { return "01" }
func (n noted) First() (*audit.Outcome, []audit.Step) { return n.first, nil }
func (noted) Step(context.Context, audit.Step) error  { return nil }
func (n noted) End(_ context.Context, o audit.Outcome) error {
	n.ended = append(n.ended, o)
	return nil
}

func kick() Request {
	return Request{
		Actor: "local:ann", Action: "control.run", Subject: "kick-slow", Project: "color-game", Service: "gateway",
		Instances: []ops.InstanceID{"boot-1", "boot-2"}, Mutating: true, Reason: "lobby is late", Confirm: "gateway",
	}
}

func TestRails(t *testing.T) {
	policy, err := parsePolicy([]byte(`
default:
  deny: ["danger-*"]
projects:
  color-game:
    allow: ["kick-*", "colorgame.v1.RoomService/*"]
    max_instances: 2
  card-game:
    read_only: true
`))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		edit     func(*Request)
		kind     ops.ErrorKind
		want     string
		recorded bool
	}{
		"as it should be":             {func(*Request) {}, "", "", true},
		"no reason":                   {func(r *Request) { r.Reason = "  " }, ops.Invalid, "kick-slow changes 2 instances and needs a reason: say why in one sentence", false},
		"no confirmation":             {func(r *Request) { r.Confirm = "" }, ops.Invalid, "kick-slow changes 2 instances and needs a confirmation that names the target: confirm with gateway", false},
		"another target confirmed":    {func(r *Request) { r.Confirm = "boot-1" }, ops.Invalid, "kick-slow changes 2 instances and needs a confirmation that names the target: confirm with gateway", false},
		"one instance, by its id":     {func(r *Request) { r.Instances, r.Confirm = r.Instances[:1], "boot-1" }, "", "", true},
		"one instance, by another id": {func(r *Request) { r.Instances, r.Confirm = r.Instances[:1], "boot-2" }, ops.Invalid, "kick-slow changes 1 instance and needs a confirmation that names the target: confirm with gateway or boot-1", false},
		"nobody":                      {func(r *Request) { r.Instances = nil }, ops.Invalid, "no instance was chosen: name one, or all of the service", false},
		"as many as were shown":       {func(r *Request) { r.Expect = 2 }, "", "", true},
		"more than were shown":        {func(r *Request) { r.Expect = 1 }, ops.Conflict, "this would affect 2 instances, not 1 as was shown: look again and confirm", false},
		"too many":                    {func(r *Request) { r.Instances = append(r.Instances, "boot-3") }, ops.Denied, "the policy of this centre allows at most 2 instances of color-game at once, and this would affect 3: choose fewer", true},
		"not allowed":                 {func(r *Request) { r.Subject = "gc" }, ops.Denied, "the policy of this centre does not allow gc in color-game: allowed are kick-*, colorgame.v1.RoomService/*", true},
		"a method that is":            {func(r *Request) { r.Subject = "colorgame.v1.RoomService/Close" }, "", "", true},
		"read-only project":           {func(r *Request) { r.Project = "card-game" }, ops.Denied, "the policy of this centre makes card-game read-only: nothing may be changed there", true},
		"forbidden elsewhere":         {func(r *Request) { r.Project, r.Subject = "x", "danger-zone" }, ops.Denied, "the policy of this centre forbids danger-zone in x", true},
		"looking needs nothing":       {func(r *Request) { r.Project, r.Mutating, r.Reason, r.Confirm = "card-game", false, "", "" }, "", "", false},
		"looking, on record":          {func(r *Request) { r.Mutating, r.Record, r.Reason, r.Confirm = false, true, "", "" }, "", "", true},
		"dry run needs no reason":     {func(r *Request) { r.DryRun, r.Reason, r.Confirm = true, "", "" }, "", "", true},
		"dry run of what is refused":  {func(r *Request) { r.DryRun, r.Subject = true, "gc" }, ops.Denied, "the policy of this centre does not allow gc in color-game: allowed are kick-*, colorgame.v1.RoomService/*", true},
	} {
		t.Run(name, func(t *testing.T) {
			n := &notes{}
			r := kick()
			tt.edit(&r)
			a, err := New(n, policy).Begin(t.Context(), r)
			switch {
			case tt.kind == "" && (err != nil || a == nil):
				t.Fatal(err)
			case tt.kind != "" && (ops.KindOf(err) != tt.kind || err.Error() != tt.want):
				t.Fatalf("got %v (%s), want %s", err, ops.KindOf(err), tt.want)
			}
			if tt.recorded != (len(n.begun) == 1) {
				t.Errorf("on record: %+v", n.begun)
			}
			if refused := tt.kind == ops.Denied; refused != (len(n.ended) == 1 && n.ended[0].Result == audit.Refused && n.ended[0].Message == tt.want) {
				t.Errorf("outcomes on record: %+v", n.ended)
			}
		})
	}
}

// What was done once under a key is not judged again by what holds now.
func TestRepetitionIsNotJudgedAgain(t *testing.T) {
	n := &notes{first: &audit.Outcome{Result: audit.Succeeded}}
	r := kick()
	r.Key, r.Instances, r.Expect = "k", nil, 2
	a, err := New(n, Policy{}).Begin(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if first, _ := a.First(); first == nil || len(n.begun) != 0 {
		t.Errorf("it was begun again: %+v", n.begun)
	}
}

func TestPolicyThatCannotBeRight(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"projects:\n  color-game:\n    max_instances: -1\n", "project color-game: max_instances is -1: use a positive number, or leave it out for no bound"},
		{"default:\n  allow: ['[']\n", `default: the pattern "[" cannot be right: use a name, or * for a part of it`},
		{"projects:\n  'a/b': {}\n", `"a/b" is no name of a project: use letters, digits, dot, underscore and hyphen`},
		{"defualt:\n  read_only: true\n", `[1:1] unknown field "defualt"`},
	} {
		if _, err := parsePolicy([]byte(tt.in)); err == nil || err.Error() != tt.want {
			t.Errorf("%q says %v, want %s", tt.in, err, tt.want)
		}
	}
	if p, err := parsePolicy(nil); err != nil || p.refusal(kick()) != "" {
		t.Errorf("an empty policy: %+v, %v", p, err)
	}
}
