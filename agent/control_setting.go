package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// The bounds of a time to live.
const (
	minTTL = time.Second
	maxTTL = 24 * time.Hour
)

// knob is a setting of the process: its values travel as text. set and restore
// are called one at a time.
type knob interface {
	// value is what holds now, in the form that read returns; empty = it cannot be
	// read. It may be called at any time and does not block.
	value() string
	// read makes the value of a call's arguments, and says why not.
	read(Args) (string, error)
	set(ctx context.Context, value string) error
	// restore puts back what value returned before the first set.
	restore(ctx context.Context, original string) error
}

// setting is a knob with a memory: what was there before any control, what a
// control set for good, and when the latest goes back by itself. It lives in the
// process, not in a connection, so that it goes back whether or not there is a
// centre.
type setting struct {
	agent *Agent
	name  string
	knob  knob
	turn  chan struct{} // the control's: whoever has it may use the knob
	// keepOnClose leaves it as it is when the agent closes.
	keepOnClose bool

	mu       sync.Mutex // guards what follows, never held while the knob works
	held     bool       // a control has set it
	original string
	setTo    string  // by the latest control, as the knob says it
	pinned   *string // what a control set without a time to live
	timer    *time.Timer
	at       time.Time // when the timer fires
	turnNo   int       // counts changes: a timer of an earlier one does nothing
}

// look returns the value now, what a control set, and what was there before.
func (s *setting) look() (value, setTo, original string) {
	value = s.knob.value()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held {
		setTo, original = s.setTo, s.original
	}
	return value, setTo, original
}

func (s *setting) revertsAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// plan checks a call and returns what carries it out.
func (s *setting) plan(args Args, req *agentv1.InvokeControlRequest) (func(context.Context, *agentv1.InvokeControlResponse) error, error) {
	var ttl time.Duration
	if req.GetTtl() != nil {
		if ttl = req.GetTtl().AsDuration(); ttl < minTTL || ttl > maxTTL {
			return nil, status.Errorf(codes.InvalidArgument, "%s: a time to live of %v is out of range: use %v to %v", s.name, ttl, minTTL, maxTTL)
		}
	}
	if req.GetRevert() {
		if ttl > 0 {
			return nil, status.Errorf(codes.InvalidArgument, "%s: to revert it takes no time to live", s.name)
		}
		return func(ctx context.Context, out *agentv1.InvokeControlResponse) error {
			return s.revert(ctx, req.GetDryRun(), out)
		}, nil
	}
	value, err := s.knob.read(args)
	if err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "%s: %v", s.name, err)
	}
	return func(ctx context.Context, out *agentv1.InvokeControlResponse) error {
		return s.change(ctx, value, ttl, req.GetDryRun(), out)
	}, nil
}

// change sets the value; with a time to live it goes back to what was there: to
// what an earlier control set for good, else to what the program had.
func (s *setting) change(ctx context.Context, value string, ttl time.Duration, dry bool, out *agentv1.InvokeControlResponse) error {
	out.Before, out.After = s.knob.value(), value
	if dry {
		out.Message = fmt.Sprintf("would set %s from %s to %s", s.name, known(out.Before), value)
		if ttl > 0 {
			out.Message += " for " + ttl.String()
		}
		return nil
	}
	s.mu.Lock()
	first := !s.held
	s.mu.Unlock()
	if err := s.knob.set(ctx, value); err != nil {
		return err
	}
	out.After = s.knob.value()
	s.mu.Lock()
	defer s.mu.Unlock()
	if first {
		s.original = out.Before
	}
	s.held, s.setTo = true, out.After
	s.stopTimer()
	if ttl == 0 {
		s.pinned = &value
		out.Message = fmt.Sprintf("%s is %s now; it was %s", s.name, known(out.After), known(out.Before))
		return nil
	}
	no := s.turnNo
	s.at = time.Now().Add(ttl)
	s.timer = time.AfterFunc(ttl, func() { s.agent.spawn("setting "+s.name, func() { s.expire(no) }) })
	out.RevertsAt = timestamppb.New(s.at)
	out.Message = fmt.Sprintf("%s is %s for %v; it was %s", s.name, known(out.After), ttl, known(out.Before))
	return nil
}

// stopTimer makes the latest timer do nothing; the caller holds mu.
func (s *setting) stopTimer() {
	s.turnNo++
	s.at = time.Time{}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

// revert puts back what the program had.
func (s *setting) revert(ctx context.Context, dry bool, out *agentv1.InvokeControlResponse) error {
	s.mu.Lock()
	held, original := s.held, s.original
	s.mu.Unlock()
	out.Before = s.knob.value()
	out.After = out.Before
	switch {
	case !held:
		out.Message = fmt.Sprintf("no control has changed %s: it is %s", s.name, known(out.Before))
		return nil
	case dry:
		out.After = original
		out.Message = fmt.Sprintf("would put %s back from %s to %s", s.name, known(out.Before), known(original))
		return nil
	}
	if err := s.knob.restore(ctx, original); err != nil {
		return err
	}
	s.mu.Lock()
	s.stopTimer()
	s.held, s.pinned = false, nil
	s.mu.Unlock()
	out.After = s.knob.value()
	out.Message = fmt.Sprintf("%s is %s again; it was %s", s.name, known(out.After), known(out.Before))
	return nil
}

// expire ends a time to live. What the program has changed itself meanwhile stays
// as the program wants it.
func (s *setting) expire(no int) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-s.agent.ctx.Done():
		return // Close puts it back
	}
	s.mu.Lock()
	stale := s.turnNo != no
	pinned, original, setTo := s.pinned, s.original, s.setTo
	if !stale {
		s.stopTimer()
		if pinned == nil {
			s.held = false
		} else {
			s.setTo = *pinned
		}
	}
	s.mu.Unlock()
	if stale {
		return
	}
	if now := s.knob.value(); now != setTo {
		s.agent.log.Info("a setting was not put back: the program changed it itself", slog.String("setting", s.name), slog.String("set", setTo), slog.String("now", now))
		return
	}
	ctx, cancel := context.WithTimeout(s.agent.ctx, defaultControlTime)
	defer cancel()
	err := survivor(s.agent, s.name, func() error {
		if pinned != nil {
			return s.knob.set(ctx, *pinned)
		}
		return s.knob.restore(ctx, original)
	})
	if err != nil {
		s.agent.log.Error("a setting could not be put back", slog.String("setting", s.name), slog.Any("error", err))
		return
	}
	s.agent.log.Info("a setting went back when its time was over", slog.String("setting", s.name), slog.String("value", s.knob.value()))
}

// close puts the setting back: the agent leaves the process as it found it.
func (s *setting) close() {
	s.mu.Lock()
	s.stopTimer()
	held, original, setTo := s.held, s.original, s.setTo
	s.held = false
	s.mu.Unlock()
	if !held || s.keepOnClose || s.knob.value() != setTo {
		return
	}
	if err := survivor(s.agent, s.name, func() error { return s.knob.restore(context.Background(), original) }); err != nil {
		s.agent.log.Error("a setting could not be put back", slog.String("setting", s.name), slog.Any("error", err))
	}
}

func known(value string) string {
	if value == "" {
		return "unknown"
	}
	return value
}
