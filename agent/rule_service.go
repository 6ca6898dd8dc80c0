package agent

import (
	"context"
	"time"

	"google.golang.org/grpc"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// ruleService is RuleService, beside service on the same connections.
type ruleService struct {
	agentv1.UnimplementedRuleServiceServer
	service *service
}

const (
	// followEvery is how often the values of rules are told although nothing
	// happened, and followAtMost how often at most.
	followEvery  = 3 * time.Second
	followAtMost = 500 * time.Millisecond
	maxTold      = 64 // events in one message
	// wantedByRules is who the rules want the flight recorder on as.
	wantedByRules = "rules"
)

// SetRules implements the protocol. It is a control: the process then acts by
// itself.
func (s *ruleService) SetRules(ctx context.Context, req *agentv1.SetRulesRequest) (resp *agentv1.SetRulesResponse, err error) {
	return &agentv1.SetRulesResponse{}, s.service.guard(ctx, "SetRules", func() error {
		if err := s.service.mayControl(); err != nil {
			return err
		}
		rules, before, err := readRules(req)
		if err != nil {
			return err
		}
		s.service.agent.setRules(rules, before)
		return nil
	})
}

func (a *Agent) setRules(rules []rule, before map[string][]time.Time) {
	rules = append(rules, a.ownRules()...)
	a.rules.set(rules, before)
	// Only a rule that takes the past keeps the recorder on; that it could not be
	// turned on is told with the state.
	_ = a.flight.want(wantedByRules, lookBack(rules))
}

// FollowRules implements the protocol.
func (s *ruleService) FollowRules(req *agentv1.FollowRulesRequest, stream grpc.ServerStreamingServer[agentv1.FollowRulesResponse]) error {
	return s.service.guard(stream.Context(), "FollowRules", func() error {
		a := s.service.agent
		told := req.GetAfterEvent()
		for {
			changed := a.rules.changed.wait()
			m := &agentv1.FollowRulesResponse{States: a.rules.states(), Flight: a.flight.state()}
			m.Events = a.rules.since(told)
			m.Events = m.Events[:min(len(m.Events), maxTold)]
			for _, c := range a.captures.kept() {
				m.Kept = append(m.Kept, c.kept())
			}
			if err := stream.Send(m); err != nil {
				return err
			}
			if n := len(m.Events); n > 0 {
				told = m.Events[n-1].Number
			}
			if err := s.pause(stream.Context(), changed); err != nil || a.ctx.Err() != nil {
				return err
			}
		}
	})
}

// pause waits until there is something to tell.
func (s *ruleService) pause(ctx context.Context, changed <-chan struct{}) error {
	least := time.NewTimer(followAtMost)
	defer least.Stop()
	most := time.NewTimer(followEvery)
	defer most.Stop()
	done := s.service.agent.ctx.Done()
	select {
	case <-changed:
	case <-most.C:
		return nil
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-least.C:
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
