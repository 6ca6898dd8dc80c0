// Package control runs controls on the instances of a service: on one, on some
// or on all, the first alone, the rest in batches, stopping at the first that
// fails. Before anything runs it has passed the guard rails and is on record.
//
// It knows nothing of how an instance is reached nor of what a control does.
package control

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/internal/guard"
	"github.com/opscenter/opscenter/internal/ops"
)

// Fleet is what an Engine needs to know of instances.
type Fleet interface {
	// Instances returns those of a service that are not gone.
	Instances(ops.ServiceKey) []ops.Instance
	Instance(ops.InstanceID) (ops.Instance, error)
	// Controllable returns the way to an instance's controls: NotFound if it is
	// unknown, Unavailable if it is away, Conflict if it can have none.
	Controllable(ops.InstanceID) (ops.Controllable, error)
}

// Config makes an Engine. Fleet and Rails are needed.
type Config struct {
	Fleet  Fleet
	Rails  *guard.Rails
	Logger *slog.Logger // nil = silent
}

// Engine runs controls. All methods may be called concurrently.
type Engine struct {
	fleet Fleet
	rails *guard.Rails
	log   *slog.Logger
	runs  chan struct{} // a token for every run in progress
}

const (
	// maxRuns bounds the actions at once; each has its own bound of calls.
	maxRuns = 64
	// maxCalls bounds the calls of one action at once.
	maxCalls = 32
	// maxInstances bounds one action.
	maxInstances = 1000
)

// New makes an Engine.
func New(cfg Config) *Engine {
	e := &Engine{fleet: cfg.Fleet, rails: cfg.Rails, log: cfg.Logger, runs: make(chan struct{}, maxRuns)}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	return e
}

// Selection chooses instances of one service.
type Selection struct {
	Project ops.ProjectName
	Service ops.ServiceName
	// Instances names them; empty = all of the service that are not gone. With
	// names Project and Service may be empty.
	Instances []ops.InstanceID
}

// Listing is what the instances of a selection offer.
type Listing struct {
	Project   ops.ProjectName
	Service   ops.ServiceName
	Instances []ops.Instance
	Controls  []Offer
	// Problems says why an instance tells nothing of its controls.
	Problems map[ops.InstanceID]string
}

// Offer is a control and who offers it.
type Offer struct {
	// Control as the first of them describes it. It is mutating if any of them says
	// so. What holds on one instance only (Value and what follows) is in On.
	ops.Control
	On map[ops.InstanceID]ops.Control
	// Differs: they do not describe it alike, as while a new version is rolled out.
	Differs bool
}

// List asks the instances what they offer and what holds now.
func (e *Engine) List(ctx context.Context, s Selection) (Listing, error) {
	instances, err := e.choose(s)
	if err != nil {
		return Listing{}, err
	}
	l := Listing{Project: instances[0].Project, Service: instances[0].Service, Instances: instances, Problems: map[ops.InstanceID]string{}}
	offered := e.ask(ctx, instances)
	for _, i := range instances {
		o := offered[i.ID]
		if o.err != nil {
			l.Problems[i.ID] = o.err.Error()
		}
		for _, c := range o.controls {
			l.add(i.ID, c)
		}
	}
	slices.SortFunc(l.Controls, func(a, b Offer) int {
		if a.Builtin != b.Builtin { // the service's own first: they are why one comes
			if b.Builtin {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return l, ctx.Err()
}

func (l *Listing) add(id ops.InstanceID, c ops.Control) {
	i := slices.IndexFunc(l.Controls, func(o Offer) bool { return o.Name == c.Name })
	if i < 0 {
		l.Controls = append(l.Controls, Offer{Control: c, On: map[ops.InstanceID]ops.Control{}})
		i = len(l.Controls) - 1
	}
	o := &l.Controls[i]
	o.On[id] = c
	o.Mutating = o.Mutating || c.Mutating
	o.Differs = o.Differs || o.Description != c.Description || o.Setting != c.Setting || o.Builtin != c.Builtin ||
		!slices.EqualFunc(o.Params, c.Params, func(a, b ops.ControlParam) bool {
			return a.Name == b.Name && a.Type == b.Type && a.Required == b.Required && slices.Equal(a.Choices, b.Choices)
		})
}

// choose resolves a selection, in order of the instances' ids: the same
// instance is first every time.
func (e *Engine) choose(s Selection) ([]ops.Instance, error) {
	if len(s.Instances) == 0 {
		return e.chooseAll(s)
	}
	if len(s.Instances) > maxInstances {
		return nil, ops.Errorf(ops.Invalid, "%d instances are too many for one action: use at most %d", len(s.Instances), maxInstances)
	}
	var out []ops.Instance
	for _, id := range s.Instances {
		i, err := e.fleet.Instance(id)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o ops.Instance) bool { return o.ID == i.ID }) {
			continue
		}
		if len(out) > 0 && out[0].Key() != i.Key() {
			return nil, ops.Errorf(ops.Invalid, "instance %s is of %s and %s is of %s: one action is for instances of one service", out[0].ID, out[0].Key(), i.ID, i.Key())
		}
		if s.Service != "" && s.Service != i.Service || s.Project != "" && s.Project != i.Project {
			return nil, ops.Errorf(ops.Invalid, "instance %s is of %s, not of %s", i.ID, i.Key(), ops.ServiceKey{Project: cmp.Or(s.Project, i.Project), Service: cmp.Or(s.Service, i.Service)})
		}
		out = append(out, i)
	}
	sortInstances(out)
	return out, nil
}

func (e *Engine) chooseAll(s Selection) ([]ops.Instance, error) {
	if s.Service == "" {
		return nil, ops.Errorf(ops.Invalid, "no service was chosen: name one, or its instances")
	}
	out := e.fleet.Instances(ops.ServiceKey{Project: s.Project, Service: s.Service})
	switch {
	case len(out) == 0:
		return nil, ops.Errorf(ops.NotFound, "no instance of %s is there: see which services have some", s.Service)
	case len(out) > maxInstances:
		return nil, ops.Errorf(ops.Invalid, "%s has %d instances, too many for one action: name at most %d of them", s.Service, len(out), maxInstances)
	}
	sortInstances(out)
	for _, i := range out {
		if i.Key() != out[0].Key() {
			return nil, ops.Errorf(ops.Invalid, "%s exists in %s and in %s: name the project", s.Service, out[0].Project, i.Project)
		}
	}
	return out, nil
}

func sortInstances(list []ops.Instance) {
	slices.SortFunc(list, func(a, b ops.Instance) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.ID, b.ID))
	})
}

// offers is what one instance said.
type offers struct {
	controls []ops.Control
	err      error
}

// ask asks every instance what it offers.
func (e *Engine) ask(ctx context.Context, instances []ops.Instance) map[ops.InstanceID]offers {
	var (
		mu  sync.Mutex // guards out
		out = map[ops.InstanceID]offers{}
		g   errgroup.Group
	)
	g.SetLimit(maxCalls)
	for _, i := range instances {
		g.Go(func() error {
			var o offers
			c, err := e.fleet.Controllable(i.ID)
			if err == nil {
				o.controls, err = c.Controls(ctx)
			}
			o.err = err
			mu.Lock()
			defer mu.Unlock()
			out[i.ID] = o
			return nil
		})
	}
	_ = g.Wait() // the errors are in out
	return out
}

// plan is a request checked against the present.
type plan struct {
	instances []ops.Instance
	control   Offer
	rails     guard.Request
	waves     [][]ops.Instance
	// problems says of instances why they cannot take part.
	problems map[ops.InstanceID]string
}

// prepare resolves a request and says what stands in its way.
func (e *Engine) prepare(ctx context.Context, r Request) (plan, error) {
	if err := r.check(); err != nil {
		return plan{}, err
	}
	l, err := e.List(ctx, r.Selection)
	if err != nil {
		return plan{}, err
	}
	p := plan{instances: l.Instances, problems: l.Problems}
	at := slices.IndexFunc(l.Controls, func(o Offer) bool { return o.Name == r.Name })
	if at < 0 {
		return plan{}, noSuchControl(r.Name, l)
	}
	p.control = l.Controls[at]
	for _, i := range l.Instances {
		c, offered := p.control.On[i.ID]
		switch {
		case p.problems[i.ID] != "":
		case !offered:
			p.problems[i.ID] = fmt.Sprintf("it has no control %s", r.Name)
		case c.Unavailable != "":
			p.problems[i.ID] = c.Unavailable
		case (r.TTL != 0 || r.Revert) && !c.Setting:
			return plan{}, ops.Errorf(ops.Invalid, "%s is not a setting: it takes no time to live and cannot be reverted", r.Name)
		case r.DryRun && !c.DryRun:
			return plan{}, ops.Errorf(ops.Conflict, "%s cannot say what it would do: it offers no dry run", r.Name)
		}
	}
	if !r.Revert {
		if err := checkArgs(p.control.Control, r.Args); err != nil {
			return plan{}, err
		}
	}
	able := slices.DeleteFunc(slices.Clone(p.instances), func(i ops.Instance) bool { return p.problems[i.ID] != "" })
	p.waves = r.Rollout.waves(able, p.control.Mutating && !r.DryRun)
	p.rails, err = r.rails(p)
	return p, err
}

func noSuchControl(name string, l Listing) error {
	if len(l.Controls) == 0 && len(l.Problems) > 0 {
		for _, i := range l.Instances {
			if why := l.Problems[i.ID]; why != "" {
				return ops.Errorf(ops.Conflict, "%s has no controls: %s", l.Service, why)
			}
		}
	}
	var names []string
	for _, c := range l.Controls {
		names = append(names, c.Name)
	}
	return ops.Errorf(ops.NotFound, "%s has no control %.64q: it has %s", l.Service, name, strings.Join(names, ", "))
}

// checkArgs finds what is missing or unknown before anything runs; the form of
// an argument is the instance's to judge.
func checkArgs(c ops.Control, args map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if !slices.ContainsFunc(c.Params, func(p ops.ControlParam) bool { return p.Name == name }) {
			var names []string
			for _, p := range c.Params {
				names = append(names, p.Name)
			}
			if len(names) == 0 {
				return ops.Errorf(ops.Invalid, "%s: there is no parameter %.64q: it takes none", c.Name, name)
			}
			return ops.Errorf(ops.Invalid, "%s: there is no parameter %.64q: it takes %s", c.Name, name, strings.Join(names, ", "))
		}
	}
	for _, p := range c.Params {
		text, given := args[p.Name]
		switch {
		case !given && p.Required:
			return ops.Errorf(ops.Invalid, "%s: %s is missing", c.Name, p.Name)
		case given && p.Type == ops.ParamEnum && !slices.Contains(p.Choices, text):
			return ops.Errorf(ops.Invalid, "%s: %s %.80q is not valid: use one of %s", c.Name, p.Name, text, strings.Join(p.Choices, ", "))
		}
	}
	return nil
}

// Rollout is the order in which instances are reached. The zero value is: one
// first, then all the others, stopping if the first fails. What changes nothing
// goes to all at once.
type Rollout struct {
	NoCanary  bool          // the first batch is as large as the others
	Batch     int           // instances at a time after the first; 0 = all of them
	Pause     time.Duration // between one batch and the next; at most MaxPause
	KeepGoing bool          // do not stop at a failure
}

// MaxPause bounds Rollout.Pause.
const MaxPause = 10 * time.Minute

func (r Rollout) waves(all []ops.Instance, mutating bool) (out [][]ops.Instance) {
	switch {
	case len(all) == 0:
		return nil
	case !mutating:
		return [][]ops.Instance{all}
	}
	if !r.NoCanary && len(all) > 1 {
		out, all = append(out, all[:1]), all[1:]
	}
	size := r.Batch
	if size == 0 {
		size = len(all)
	}
	for wave := range slices.Chunk(all, max(size, 1)) {
		out = append(out, wave)
	}
	return out
}

func (r Request) check() error {
	switch {
	case r.Name == "":
		return ops.Errorf(ops.Invalid, "no control was chosen: name one")
	case r.Revert && (len(r.Args) > 0 || r.TTL != 0):
		return ops.Errorf(ops.Invalid, "%s: to revert it takes neither arguments nor a time to live", r.Name)
	case r.TTL < 0:
		return ops.Errorf(ops.Invalid, "a time to live of %v cannot be: use a positive one, or none", r.TTL)
	case r.Timeout < 0:
		return ops.Errorf(ops.Invalid, "a timeout of %v cannot be: use a positive one, or none", r.Timeout)
	case r.Rollout.Batch < 0:
		return ops.Errorf(ops.Invalid, "a batch of %d cannot be: use 1 or more, or 0 for all at once", r.Rollout.Batch)
	case r.Rollout.Pause < 0 || r.Rollout.Pause > MaxPause:
		return ops.Errorf(ops.Invalid, "a pause of %v is out of range: use up to %v", r.Rollout.Pause, MaxPause)
	}
	return nil
}

// mayHaveRun reports whether an error of a call leaves it open whether the
// control ran.
func mayHaveRun(err error) bool {
	switch ops.KindOf(err) {
	case ops.Invalid, ops.NotFound, ops.Conflict, ops.Denied:
		return false
	}
	return true
}
