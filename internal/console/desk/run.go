package desk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/console"
	"github.com/opscenter/opscenter/internal/ops"
)

const (
	defaultParallel = 4
	maxParallel     = 16
	// keptAnswers bounds what of the answers is kept for a repetition.
	keptAnswers = 32 << 10
)

// run is one call while it runs, on all its instances.
type run struct {
	desk   *Desk
	call   Call
	method console.Method
	id     CallID
	began  time.Time
	talk   *conversation // nil = everything that is sent was given

	mu      sync.Mutex // around tell, and what follows
	tell    func(Event) error
	broken  error // of tell: nobody listens any more
	ends    map[ops.InstanceID]*ending
	kept    int
	skipped int
}

// ending is how a call ended on one instance, as it is kept for a repetition.
type ending struct {
	code           codes.Code
	message        string
	failed         bool // it was not made
	sent, received int
	answers        []json.RawMessage
	cut            bool
}

func keys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

// event tells what happened, and notes what has to be known at the end.
func (r *run) event(e Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(e)
	if r.broken == nil {
		r.broken = r.tell(e)
	}
	return r.broken
}

func (r *run) note(e Event) {
	if e.Instance == "" || e.Skipped {
		return
	}
	end := r.ends[e.Instance]
	if end == nil {
		end = &ending{}
		r.ends[e.Instance] = end
	}
	switch {
	case e.Received != nil:
		end.received++
		if r.kept+len(e.Received.JSON) <= keptAnswers && !e.Received.Cut {
			r.kept += len(e.Received.JSON)
			end.answers = append(end.answers, json.RawMessage(e.Received.JSON))
		} else {
			end.cut = true
		}
	case e.End != nil:
		end.code, end.message, end.sent = e.End.Code, e.End.Message, e.End.Sent
	case e.Failed != nil:
		end.failed, end.code, end.message = true, codes.Unknown, e.Failed.Error()
	}
}

// all calls the instances, and records a step for each.
func (r *run) all(ctx context.Context, action audit.Action) error {
	ids := r.call.Instances
	if len(ids) == 1 {
		if _, err := r.one(ctx, action, ids[0]); err != nil {
			return err
		}
		return ctx.Err()
	}
	stopped := false
	if r.call.Canary {
		ok, err := r.one(ctx, action, ids[0])
		if err != nil {
			return err
		}
		ids, stopped = ids[1:], !ok
	}
	parallel := min(max(r.call.Parallel, 0), maxParallel)
	if parallel == 0 {
		parallel = defaultParallel
	}
	room := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	for _, id := range ids {
		room <- struct{}{}
		mu.Lock()
		skip, over := stopped, first != nil
		mu.Unlock()
		if over || ctx.Err() != nil {
			<-room
			break
		}
		if skip {
			<-room
			if err := r.skip(ctx, action, id); err != nil {
				mu.Lock()
				first = err
				mu.Unlock()
			}
			continue
		}
		wg.Go(func() {
			defer func() { <-room }()
			ok, err := r.one(ctx, action, id)
			mu.Lock()
			defer mu.Unlock()
			stopped = stopped || (!ok && r.call.StopOnError)
			if first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	if first == nil {
		first = ctx.Err()
	}
	return first
}

func (r *run) skip(ctx context.Context, action audit.Action, id ops.InstanceID) error {
	r.mu.Lock()
	r.skipped++
	r.mu.Unlock()
	if err := action.Step(context.WithoutCancel(ctx), audit.Step{Instance: id, Result: audit.Skipped}); err != nil {
		return err
	}
	return r.event(Event{Instance: id, Skipped: true})
}

// one calls one instance. The error is one that ends everything.
func (r *run) one(ctx context.Context, action audit.Action, id ops.InstanceID) (ok bool, err error) {
	c := r.call
	err = r.desk.console.Call(ctx, console.Request{
		Instance: id, Route: c.Route, Method: c.Method, Messages: r.messages(), Metadata: c.Metadata,
		Timeout: c.Timeout, Defaults: c.Defaults, MaxJSONBytes: c.MaxJSONBytes,
	}, func(e console.Event) error { return r.event(Event{Instance: id, Event: e}) })
	r.mu.Lock()
	broken := r.broken
	r.mu.Unlock()
	if err != nil && broken == nil {
		broken = r.event(Event{Instance: id, Failed: err})
	}
	step := r.step(id, broken)
	if err := action.Step(context.WithoutCancel(ctx), step); err != nil {
		return false, err
	}
	return step.Result == audit.Succeeded, broken
}

func (r *run) step(id ops.InstanceID, broken error) audit.Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := audit.Step{Instance: id, Result: audit.Succeeded}
	end := r.ends[id]
	switch {
	case end == nil || (broken != nil && end.code == codes.OK):
		s.Result, s.Message = audit.Cancelled, "whoever called left"
	case end.failed:
		s.Result, s.Message = audit.Failed, end.message
	case end.code == codes.Canceled:
		s.Result, s.Message = audit.Cancelled, end.message
	case end.code != codes.OK:
		s.Result, s.Message = audit.Failed, fmt.Sprintf("%s: %s", end.code, end.message)
	}
	return s
}

// messages gives every instance what is to be sent.
func (r *run) messages() console.Next {
	given := make([][]byte, len(r.call.Messages))
	for n, m := range r.call.Messages {
		given[n] = m
	}
	next := console.Messages(given...)
	if r.talk == nil {
		return next
	}
	return func(ctx context.Context) ([]byte, error) {
		if b, err := next(ctx); !errors.Is(err, io.EOF) {
			return b, err
		}
		return r.talk.next(ctx)
	}
}

// answer is what a repetition under the same key is answered with.
type answer struct {
	Instances []instanceAnswer `json:"instances"`
}

type instanceAnswer struct {
	ID       ops.InstanceID    `json:"id"`
	Code     codes.Code        `json:"code"`
	Message  string            `json:"message,omitempty"`
	Failed   bool              `json:"failed,omitempty"`
	Skipped  bool              `json:"skipped,omitempty"`
	Sent     int               `json:"sent"`
	Received int               `json:"received"`
	Answers  []json.RawMessage `json:"answers,omitempty"`
}

// outcome says what became of the whole.
func (r *run) outcome(err error) audit.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	ok, bad := 0, 0
	var a answer
	for _, id := range r.call.Instances {
		end := r.ends[id]
		if end == nil {
			a.Instances = append(a.Instances, instanceAnswer{ID: id, Skipped: true})
			continue
		}
		if end.code == codes.OK {
			ok++
		} else {
			bad++
		}
		a.Instances = append(a.Instances, instanceAnswer{ID: id, Code: end.code, Message: end.message, Failed: end.failed, Sent: end.sent, Received: end.received, Answers: end.answers})
	}
	o := audit.Outcome{Result: audit.Succeeded}
	_, o.Message = worst(r.ends)
	switch {
	case err != nil && ok == 0 && bad == 0, errors.Is(err, context.Canceled):
		o.Result, o.Message = audit.Cancelled, "whoever called left before the end"
	case ok > 0 && (bad > 0 || r.skipped > 0):
		o.Result = audit.Partial
	case bad > 0:
		o.Result = audit.Failed
	}
	if b, err := json.Marshal(a); err == nil {
		o.Answer = b
	}
	return o
}

// replay answers with what was answered before.
func (r *run) replay(started *Started, first *audit.Outcome, _ []audit.Step) error {
	if err := r.tell(Event{Started: started}); err != nil {
		return err
	}
	if first.AnswerLost || len(first.Answer) == 0 {
		return ops.Errorf(ops.Conflict, "this was done before under the same key, with the result %q, but its answer was too large to be kept: nothing was done again", first.Result)
	}
	var a answer
	if err := json.Unmarshal(first.Answer, &a); err != nil {
		return ops.Errorf(ops.Corrupt, "this was done before under the same key, but its answer cannot be read: nothing was done again: %w", err)
	}
	for _, i := range a.Instances {
		if i.Skipped {
			if err := r.tell(Event{Instance: i.ID, Skipped: true}); err != nil {
				return err
			}
			continue
		}
		if i.Failed {
			if err := r.tell(Event{Instance: i.ID, Failed: errors.New(i.Message)}); err != nil {
				return err
			}
			continue
		}
		for n, m := range i.Answers {
			if err := r.tell(Event{Instance: i.ID, Event: console.Event{Received: &console.Received{Index: n, JSON: m}}}); err != nil {
				return err
			}
		}
		if err := r.tell(Event{Instance: i.ID, Event: console.Event{End: &console.End{Code: i.Code, Message: i.Message, Sent: i.Sent, Received: i.Received}}}); err != nil {
			return err
		}
	}
	return nil
}
