package audit

import (
	"context"
	"errors"
	"sync"

	"github.com/opscenter/opscenter/internal/ops"
)

// action is an Action of a Log.
type action struct {
	log   *Log
	id    ID
	seq   int64
	in    Intent
	print string

	first *Outcome // of the one that had the key before
	steps []Step

	mu      sync.Mutex // guards over
	over    bool
	endOnce sync.Once
	ended   chan struct{} // closed when End was called, or Begin failed
}

// ID implements Action.
func (a *action) ID() ID { return a.id }

// First implements Action.
func (a *action) First() (*Outcome, []Step) { return a.first, a.steps }

// Step implements Action.
func (a *action) Step(ctx context.Context, s Step) error {
	if a.first != nil {
		return nil
	}
	s.Message = MaskText(cut(s.Message, MaxMessageBytes))
	if _, err := a.log.append(ctx, body{Kind: rowStep, ID: a.id, Step: &s}); err != nil {
		return ops.Errorf(ops.Unavailable, "what happened on %s could not be recorded: %w", s.Instance, err)
	}
	a.log.topic.Publish(a.id)
	return nil
}

// End implements Action.
func (a *action) End(ctx context.Context, o Outcome) error {
	if a.first != nil {
		return nil
	}
	a.mu.Lock()
	again := a.over
	a.over = true
	a.mu.Unlock()
	if again {
		return errors.New("the action has ended before")
	}
	defer a.log.release(a)
	o.Message = MaskText(cut(o.Message, MaxMessageBytes))
	if o.Answer != nil {
		if o.Answer = MaskJSON(o.Answer); len(o.Answer) > MaxAnswerBytes {
			o.Answer, o.AnswerLost = nil, true
		}
	}
	if _, err := a.log.append(ctx, body{Kind: rowOutcome, ID: a.id, Out: &o}); err != nil {
		a.log.log.ErrorContext(ctx, "an action's outcome could not be recorded", "audit", a.id, "action", a.in.Action, "result", o.Result, "err", err)
		return ops.Errorf(ops.Unavailable, "%s was carried out (%s), but its outcome could not be recorded: %w", a.in.Action, o.Result, err)
	}
	a.log.topic.Publish(a.id)
	return nil
}
