package main

import (
	"context"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/examples/colorgame/internal/gateway"
	"github.com/opscenter/opscenter/examples/colorgame/internal/record"
	"github.com/opscenter/opscenter/examples/colorgame/internal/user"
)

// The remedies of the first three scenarios, as controls: what an operator would
// do while the game runs.

func gatewayControls(s *gateway.Service) []agent.Control {
	params := []agent.Param{
		{Name: "behind", Description: "close the sockets of players who are so many messages behind; 16 is all that waits for one", Type: agent.Int, Default: "16", Min: "1", Max: "16"},
		{Name: "for", Description: "go on doing so for so long; 0s = once", Type: agent.Duration, Default: "0s", Min: "0s", Max: "1h"},
	}
	return []agent.Control{{
		Name:        "kick-slow",
		Description: "Close the sockets of players who read too slowly, so that nobody waits for them",
		Params:      params,
		Effect:      "Players on bad networks lose their socket and dial again; everybody else gets the lobby's announcements in time.",
		Undo:        "Ends by itself when its time is over; run it with for=0s to end it now.",
		Func: func(_ context.Context, args agent.Args) (any, error) {
			return map[string]int{"kicked": s.KickSlow(int(args.Int("behind")), args.Duration("for"))}, nil
		},
		DryRun: func(_ context.Context, args agent.Args) (any, error) {
			return map[string]int{"would_kick": s.Slow(int(args.Int("behind")))}, nil
		},
	}}
}

func recordControls(r *record.Recorder) []agent.Control {
	return []agent.Control{{
		Name:        "record-batch",
		Description: "Keep so many records in one transaction",
		Params:      []agent.Param{{Name: "size", Description: "1 = a transaction for each", Type: agent.Int, Required: true, Min: "1", Max: "256"}},
		Effect:      "The house's account is locked once for a batch instead of once for a record. A record waits up to 20 ms for others.",
		Undo:        "Run it with what it answers as before.",
		Func: func(_ context.Context, args agent.Args) (any, error) {
			size := int(args.Int("size"))
			return map[string]int{"before": r.SetBatch(size), "now": size}, nil
		},
	}, {
		Name:        "flush-records",
		Description: "Write the batch of records that is being gathered, without waiting for more",
		Effect:      "One transaction, earlier than it would have been.",
		Func: func(ctx context.Context, _ agent.Args) (any, error) {
			return map[string]int{"flushed": r.Flush(ctx)}, nil
		},
	}}
}

func userControls(s *user.Service) []agent.Control {
	return []agent.Control{{
		Name:        "bcrypt-cost",
		Description: "Set the cost of password hashing for logins from now on",
		Params:      []agent.Param{{Name: "cost", Description: "each step doubles the work", Type: agent.Int, Required: true, Min: "4", Max: "14"}},
		Effect:      "Each account's password is hashed anew at its next login. A lower cost makes stolen hashes cheaper to try: weigh it.",
		Undo:        "Run it with what it answers as before.",
		Func: func(_ context.Context, args agent.Args) (any, error) {
			cost := int(args.Int("cost"))
			before, err := s.SetCost(cost)
			return map[string]int{"before": before, "now": cost}, err
		},
	}}
}
