package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/guard"
	"github.com/opscenter/opscenter/internal/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// town is a fleet of one service, gateway, whose instances behave as their
// names say: "b-fails", "c-hangs", "d-away", "e-old".
type town struct {
	instances []ops.Instance
	mu        sync.Mutex
	ran       []string // "a gc", in order
	now, most int      // calls at once
}

func newTown(names ...string) *town {
	t := &town{}
	for _, n := range names {
		t.instances = append(t.instances, ops.Instance{ID: ops.InstanceID(n), Project: "color-game", Service: "gateway", State: ops.InstanceUp})
	}
	return t
}

func (t *town) Instances(k ops.ServiceKey) (out []ops.Instance) {
	for _, i := range t.instances {
		if i.Service == k.Service && (k.Project == "" || i.Project == k.Project) {
			out = append(out, i)
		}
	}
	return out
}

func (t *town) Instance(id ops.InstanceID) (ops.Instance, error) {
	for _, i := range t.instances {
		if i.ID == id {
			return i, nil
		}
	}
	return ops.Instance{}, ops.Errorf(ops.NotFound, "there is no instance %s", id)
}

func (t *town) Controllable(id ops.InstanceID) (ops.Controllable, error) {
	if strings.HasSuffix(string(id), "-away") {
		return nil, ops.Errorf(ops.Unavailable, "instance %s is not connected: try again when it is back", id)
	}
	return house{t, string(id)}, nil
}

type house struct {
	*town
	name string
}

func (h house) Controls(context.Context) ([]ops.Control, error) {
	if strings.HasSuffix(h.name, "-old") {
		return nil, ops.Errorf(ops.Conflict, "the agent of instance %s is too old for controls: update it and start the service again", h.name)
	}
	return []ops.Control{
		{Name: "gc", Builtin: true, Mutating: true},
		{Name: "gogc", Builtin: true, Mutating: true, Setting: true, DryRun: true, Value: "100", Params: []ops.ControlParam{{Name: "percent", Type: ops.ParamInt, Required: true}}},
		{Name: "flags", Builtin: true},
		{Name: "login", Mutating: true, Params: []ops.ControlParam{{Name: "user"}, {Name: "code", Secret: true}, {Name: "how", Type: ops.ParamEnum, Choices: []string{"soft", "hard"}}}},
	}, nil
}

func (h house) Control(ctx context.Context, c ops.ControlCall) (ops.ControlAnswer, error) {
	h.mu.Lock()
	h.ran = append(h.ran, h.name+" "+c.Name)
	h.now++
	h.most = max(h.most, h.now)
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.now--
		h.mu.Unlock()
	}()
	if strings.HasSuffix(h.name, "-hangs") {
		<-ctx.Done()
		return ops.ControlAnswer{}, ctx.Err()
	}
	time.Sleep(time.Second) // of the bubble's time: calls at once are seen as such, whoever is first
	switch {
	case strings.HasSuffix(h.name, "-fails"):
		return ops.ControlAnswer{Error: "no such room"}, nil
	case strings.HasSuffix(h.name, "-panics"):
		return ops.ControlAnswer{Error: "the control panicked: boom"}, nil
	case strings.HasSuffix(h.name, "-refuses"):
		return ops.ControlAnswer{}, ops.Errorf(ops.Invalid, "%s: percent is not valid", c.Name)
	case strings.HasSuffix(h.name, "-late"):
		return ops.ControlAnswer{}, ops.Errorf(ops.Unavailable, "%s did not end within 10s and was given up: it may still go on", c.Name)
	}
	return ops.ControlAnswer{Message: "did it", Result: json.RawMessage(`{"n":1}`), Took: time.Millisecond}, nil
}

// memory is a record in memory that keeps actions by key.
type memory struct {
	mu      sync.Mutex
	intents []audit.Intent
	steps   []audit.Step
	ends    []audit.Outcome
	byKey   map[string]*deed
	full    bool // nothing can be recorded
	fullAt  int  // no more than so many steps can be; 0 = any number
}

type deed struct {
	m     *memory
	first *audit.Outcome
	steps []audit.Step
}

func (m *memory) Repeated(_ context.Context, in audit.Intent) (audit.Action, error) {
	if d := m.byKey[in.Key]; d != nil {
		return d, nil
	}
	return nil, nil
}

func (m *memory) Begin(_ context.Context, in audit.Intent) (audit.Action, error) {
	if m.full {
		return nil, ops.Errorf(ops.Exhausted, "nothing was done, because %s could not be recorded: the disk is full", in.Action)
	}
	m.intents = append(m.intents, in)
	d := &deed{m: m}
	if in.Key != "" {
		if m.byKey == nil {
			m.byKey = map[string]*deed{}
		}
		m.byKey[in.Key] = d
	}
	return d, nil
}

func (d *deed) ID() audit.ID                          { return "01action" }
func (d *deed) First() (*audit.Outcome, []audit.Step) { return d.first, d.steps }
func (d *deed) Step(_ context.Context, s audit.Step) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.steps = append(d.m.steps, s)
	d.steps = append(d.steps, s)
	if d.m.fullAt > 0 && len(d.m.steps) >= d.m.fullAt {
		return ops.Errorf(ops.Unavailable, "what happened on %s could not be recorded: the disk is full", s.Instance)
	}
	return nil
}

func (d *deed) End(_ context.Context, o audit.Outcome) error {
	d.m.ends = append(d.m.ends, o)
	d.first = &o
	return nil
}

func collect(ctx context.Context, e *Engine, r Request) (text string, finished Finished, started Started, err error) {
	var lines []string
	err = e.Run(ctx, r, func(ev Event) error {
		switch {
		case ev.Started != nil:
			started = *ev.Started
		case ev.Result != nil:
			line := string(ev.Result.Instance) + ": " + string(ev.Result.Result)
			if ev.Result.Result != audit.Succeeded {
				line += ": " + ev.Result.Message
			}
			lines = append(lines, line)
		default:
			finished = *ev.Finished
		}
		return nil
	})
	slices.Sort(lines) // those of one batch come as they end
	return strings.Join(lines, "\n"), finished, started, err
}

func gc() Request {
	return Request{Selection: Selection{Service: "gateway"}, Name: "gc", Actor: "local:ann", Reason: "memory is high", Confirm: "gateway"}
}

func TestFanOut(t *testing.T) {
	for name, tt := range map[string]struct {
		fleet   []string
		edit    func(*Request)
		want    string
		verdict audit.Result
		message string
		ran     string // in order
		most    int    // at once; 0 = not checked
	}{
		"one": {fleet: []string{"a"}, want: "a: ok", verdict: audit.Succeeded, message: "did it", ran: "a gc", most: 1},
		"first one, then all others": {fleet: []string{"a", "b", "c"}, want: "a: ok\nb: ok\nc: ok", verdict: audit.Succeeded,
			message: "ok on 3 of 3 instances", most: 2},
		"in batches": {fleet: []string{"a", "b", "c", "d", "e", "f"}, edit: func(r *Request) { r.Rollout.Batch = 2 },
			want: "a: ok\nb: ok\nc: ok\nd: ok\ne: ok\nf: ok", verdict: audit.Succeeded, message: "ok on 6 of 6 instances", most: 2},
		"all at once": {fleet: []string{"a", "b", "c"}, edit: func(r *Request) { r.Rollout.NoCanary = true },
			want: "a: ok\nb: ok\nc: ok", verdict: audit.Succeeded, message: "ok on 3 of 3 instances", most: 3},
		"the canary fails": {fleet: []string{"a-fails", "b", "c"}, want: "a-fails: failed: no such room\nb: skipped: stopped at a failure\nc: skipped: stopped at a failure",
			verdict: audit.Failed, message: "ok on 0 of 3 instances, 1 failed, 2 skipped: no such room", ran: "a-fails gc", most: 1},
		"a later one fails": {fleet: []string{"a", "b-panics", "c"}, edit: func(r *Request) { r.Rollout.Batch = 1 },
			want: "a: ok\nb-panics: failed: the control panicked: boom\nc: skipped: stopped at a failure", verdict: audit.Partial,
			message: "ok on 1 of 3 instances, 1 failed, 1 skipped: the control panicked: boom", ran: "a gc b-panics gc", most: 1},
		"going on past failures": {fleet: []string{"a-fails", "b", "c-refuses", "d-late"}, edit: func(r *Request) { r.Rollout.KeepGoing = true },
			want:    "a-fails: failed: no such room\nb: ok\nc-refuses: failed: gc: percent is not valid\nd-late: unknown: gc did not end within 10s and was given up: it may still go on",
			verdict: audit.Partial, message: "ok on 1 of 4 instances, 2 failed, 1 unknown: no such room"},
		"who cannot take part stops it before anything runs": {fleet: []string{"a", "b-away", "c-old"},
			want:    "a: skipped: stopped at a failure\nb-away: failed: instance b-away is not connected: try again when it is back\nc-old: failed: the agent of instance c-old is too old for controls: update it and start the service again",
			verdict: audit.Failed, message: "ok on 0 of 3 instances, 2 failed, 1 skipped: instance b-away is not connected: try again when it is back"},
		"without those who cannot take part": {fleet: []string{"a", "b-away", "c-old"}, edit: func(r *Request) { r.Rollout.KeepGoing = true },
			want:    "a: ok\nb-away: failed: instance b-away is not connected: try again when it is back\nc-old: failed: the agent of instance c-old is too old for controls: update it and start the service again",
			verdict: audit.Partial, message: "ok on 1 of 3 instances, 2 failed: instance b-away is not connected: try again when it is back", ran: "a gc", most: 1},
		"what changes nothing goes to all": {fleet: []string{"a-fails", "b", "c"}, edit: func(r *Request) { r.Name, r.Reason, r.Confirm = "flags", "", "" },
			want: "a-fails: failed: no such room\nb: ok\nc: ok", verdict: audit.Partial, message: "ok on 2 of 3 instances, 1 failed: no such room", most: 3},
		"some of them": {fleet: []string{"a", "b", "c"}, edit: func(r *Request) { r.Instances = []ops.InstanceID{"c", "a", "c"} },
			want: "a: ok\nc: ok", verdict: audit.Succeeded, message: "ok on 2 of 2 instances", ran: "a gc c gc", most: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				town, record := newTown(tt.fleet...), &memory{}
				e := New(Config{Fleet: town, Rails: guard.New(record, guard.Policy{})})
				r := gc()
				if tt.edit != nil {
					tt.edit(&r)
				}
				got, f, s, err := collect(t.Context(), e, r)
				if err != nil || got != tt.want || f.Result != tt.verdict || f.Message != tt.message || s.Action != "01action" {
					t.Errorf("%v\n%s\n%+v\nwant\n%s\n%s: %s", err, got, f, tt.want, tt.verdict, tt.message)
				}
				if ran := strings.Join(town.ran, " "); tt.ran != "" && ran != tt.ran || tt.most > 0 && town.most != tt.most {
					t.Errorf("ran %q, %d at once", ran, town.most)
				}
				if kept := record.ends[0].Answer != nil; kept != (r.Name != "flags") {
					t.Errorf("the answer is kept: %v", kept)
				}
				if len(record.intents) != 1 || len(record.ends) != 1 || record.ends[0].Result != tt.verdict {
					t.Errorf("on record: %+v, %+v", record.intents, record.ends)
				}
			})
		})
	}
}

// One that hangs holds up its batch until somebody gives up; then the others of
// the batch are told, the rest is skipped, and all of it is on record.
func TestHangingInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		town, record := newTown("a", "b-hangs", "c", "d"), &memory{}
		e := New(Config{Fleet: town, Rails: guard.New(record, guard.Policy{})})
		r := gc()
		r.Rollout.Batch = 2
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		got, f, _, err := collect(ctx, e, r)
		want := "a: ok\nb-hangs: unknown: it was given up while it ran: it may have been carried out\nc: ok\nd: skipped: stopped by the caller"
		if err != nil || got != want || f.Result != audit.Partial || time.Since(began) != time.Minute {
			t.Errorf("after %v: %v\n%s\n%+v", time.Since(began), err, got, f)
		}
		if len(record.steps) != 3 || record.ends[0].Result != audit.Partial {
			t.Errorf("on record: %+v, %+v", record.steps, record.ends)
		}
	})
}

func TestPauseBetweenBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		town := newTown("a", "b", "c")
		e := New(Config{Fleet: town, Rails: guard.New(&memory{}, guard.Policy{})})
		r := gc()
		r.Rollout = Rollout{Batch: 1, Pause: 30 * time.Second}
		began := time.Now()
		if _, f, s, err := collect(t.Context(), e, r); err != nil || f.Result != audit.Succeeded || s.Waves != 3 || time.Since(began) != 63*time.Second {
			t.Errorf("%v, %+v after %v", err, f, time.Since(began))
		}
	})
}

func TestNobodyListensAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		town, record := newTown("a", "b", "c"), &memory{}
		e := New(Config{Fleet: town, Rails: guard.New(record, guard.Policy{})})
		gone := errors.New("the browser is closed")
		err := e.Run(t.Context(), gc(), func(ev Event) error {
			if ev.Result != nil {
				return gone
			}
			return nil
		})
		if !errors.Is(err, gone) || fmt.Sprint(town.ran) != "[a gc]" || record.ends[0].Result != audit.Partial {
			t.Errorf("%v, ran %q, on record %+v", err, town.ran, record.ends)
		}
	})
}

func TestWhatCannotBeRecordedDoesNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		town, record := newTown("a", "b", "c"), &memory{full: true}
		e := New(Config{Fleet: town, Rails: guard.New(record, guard.Policy{})})
		_, _, _, err := collect(t.Context(), e, gc())
		if ops.KindOf(err) != ops.Exhausted || len(town.ran) != 0 {
			t.Errorf("%v, and it ran %q", err, town.ran)
		}
		record.full, record.fullAt = false, 1 // the disk fills up after the first
		got, f, _, err := collect(t.Context(), e, gc())
		const why = "stopped: what happened on a could not be recorded: the disk is full"
		if err != nil || got != "a: ok\nb: skipped: "+why+"\nc: skipped: "+why || f.Result != audit.Partial || fmt.Sprint(town.ran) != "[a gc]" {
			t.Errorf("%v, %+v, ran %q\n%s", err, f, town.ran, got)
		}
	})
}

func TestSameKeyRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		town, record := newTown("a", "b-fails"), &memory{}
		e := New(Config{Fleet: town, Rails: guard.New(record, guard.Policy{})})
		r := gc()
		r.Key = "k"
		first, f1, s1, err := collect(t.Context(), e, r)
		if err != nil || s1.Replayed {
			t.Fatal(err, s1)
		}
		again, f2, s2, err := collect(t.Context(), e, r)
		if err != nil || !s2.Replayed || again != first || f2.Result != f1.Result || f2.Message != f1.Message || len(town.ran) != 2 {
			t.Errorf("again: %v, %+v\n%s\n%+v, ran %q", err, s2, again, f2, town.ran)
		}
		// An answer too long to keep leaves what happened where.
		record.byKey["k"].first.Answer = nil
		if short, _, s3, err := collect(t.Context(), e, r); err != nil || !s3.Replayed || short != first {
			t.Errorf("without the answer: %v\n%s", err, short)
		}
	})
}

func TestSecretArgumentsAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record := &memory{}
		e := New(Config{Fleet: newTown("a"), Rails: guard.New(record, guard.Policy{})})
		r := gc()
		r.Name, r.Args = "login", map[string]string{"user": "ann", "code": "hunter2"}
		if _, _, _, err := collect(t.Context(), e, r); err != nil {
			t.Fatal(err)
		}
		in := record.intents[0]
		if got := string(in.Request); got != `{"args":{"code":"[masked]","user":"ann"},"all":true}` || !strings.Contains(in.Private, "hunter2") {
			t.Errorf("on record: %s; told apart by %q", got, in.Private)
		}
	})
}

func TestPreviewAndList(t *testing.T) {
	town, record := newTown("a", "b", "c-old"), &memory{}
	e := New(Config{Fleet: town, Rails: guard.New(record, guard.Policy{Default: guard.Rules{Deny: []string{"login"}}})})
	r := gc()
	r.Reason, r.Confirm, r.Rollout.Batch = "", "", 1
	p, err := e.Preview(t.Context(), r)
	if err != nil || len(p.Instances) != 3 || fmt.Sprint(p.Waves) != "[[a] [b]]" || !p.Needs.Reason || fmt.Sprint(p.Needs.Confirm) != "[gateway]" || p.Needs.Refused != "" ||
		p.Problems["c-old"] == "" || !p.Control.Mutating || len(town.ran) != 0 || len(record.intents) != 0 {
		t.Errorf("%v, %+v", err, p)
	}
	r.Name = "login"
	if p, err := e.Preview(t.Context(), r); err != nil || p.Needs.Refused != "the policy of this centre forbids login in color-game" {
		t.Errorf("what is forbidden: %v, %+v", err, p.Needs)
	}
	l, err := e.List(t.Context(), Selection{Service: "gateway"})
	var names []string
	for _, c := range l.Controls {
		names = append(names, fmt.Sprintf("%s on %d", c.Name, len(c.On)))
	}
	if err != nil || strings.Join(names, ", ") != "login on 2, flags on 2, gc on 2, gogc on 2" || len(l.Problems) != 1 {
		t.Errorf("%v, %q, %v", err, names, l.Problems)
	}
}

func TestRequestsThatCannotBeRight(t *testing.T) {
	town := newTown("a", "b", "c-old")
	town.instances = append(town.instances, ops.Instance{ID: "z", Project: "card-game", Service: "table"}, ops.Instance{ID: "y", Project: "dice-game", Service: "table"},
		ops.Instance{ID: "x-old", Project: "color-game", Service: "legacy"})
	e := New(Config{Fleet: town, Rails: guard.New(&memory{}, guard.Policy{})})
	for _, tt := range []struct {
		edit func(*Request)
		kind ops.ErrorKind
		want string
	}{
		{func(r *Request) { r.Name = "" }, ops.Invalid, "no control was chosen: name one"},
		{func(r *Request) { r.Name = "dance" }, ops.NotFound, `gateway has no control "dance": it has login, flags, gc, gogc`},
		{func(r *Request) { r.Service = "" }, ops.Invalid, "no service was chosen: name one, or its instances"},
		{func(r *Request) { r.Service = "nothing" }, ops.NotFound, "no instance of nothing is there: see which services have some"},
		{func(r *Request) { r.Service = "table" }, ops.Invalid, "table exists in card-game and in dice-game: name the project"},
		{func(r *Request) { r.Service = "legacy" }, ops.Conflict, "legacy has no controls: the agent of instance x-old is too old for controls: update it and start the service again"},
		{func(r *Request) { r.Instances = []ops.InstanceID{"none"} }, ops.NotFound, "there is no instance none"},
		{func(r *Request) { r.Instances = []ops.InstanceID{"a", "z"} }, ops.Invalid, "instance a is of color-game/gateway and z is of card-game/table: one action is for instances of one service"},
		{func(r *Request) { r.Instances = []ops.InstanceID{"z"} }, ops.Invalid, "instance z is of card-game/table, not of card-game/gateway"},
		{func(r *Request) { r.TTL = time.Minute }, ops.Invalid, "gc is not a setting: it takes no time to live and cannot be reverted"},
		{func(r *Request) { r.DryRun = true }, ops.Conflict, "gc cannot say what it would do: it offers no dry run"},
		{func(r *Request) { r.Args = map[string]string{"x": "1"} }, ops.Invalid, `gc: there is no parameter "x": it takes none`},
		{func(r *Request) { r.Name = "gogc" }, ops.Invalid, "gogc: percent is missing"},
		{func(r *Request) { r.Name, r.Revert, r.TTL = "gogc", true, time.Minute }, ops.Invalid, "gogc: to revert it takes neither arguments nor a time to live"},
		{func(r *Request) { r.Name, r.Args = "login", map[string]string{"how": "rude"} }, ops.Invalid, `login: how "rude" is not valid: use one of soft, hard`},
		{func(r *Request) { r.Rollout.Batch = -1 }, ops.Invalid, "a batch of -1 cannot be: use 1 or more, or 0 for all at once"},
		{func(r *Request) { r.Rollout.Pause = time.Hour }, ops.Invalid, "a pause of 1h0m0s is out of range: use up to 10m0s"},
		{func(r *Request) { r.Expect = 12 }, ops.Conflict, "this would affect 3 instances, not 12 as was shown: look again and confirm"},
		{func(r *Request) { r.Reason = "" }, ops.Invalid, "gc changes 3 instances and needs a reason: say why in one sentence"},
	} {
		r := gc()
		tt.edit(&r)
		_, _, _, err := collect(t.Context(), e, r)
		if ops.KindOf(err) != tt.kind || err.Error() != tt.want {
			t.Errorf("got %v (%s)\nwant %s", err, ops.KindOf(err), tt.want)
		}
	}
	if len(town.ran) != 0 {
		t.Errorf("it ran %q", town.ran)
	}
}
