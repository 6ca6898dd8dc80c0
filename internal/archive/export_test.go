package archive

import (
	"context"
	"time"
)

// Sweep lets tests run retention at a time of their choice.
func (a *Archive) Sweep(ctx context.Context, now time.Time) error { return a.sweep(ctx, now) }

// Settle lets tests repeat what a full disk refused without waiting for Run.
func (a *Archive) Settle(ctx context.Context) { a.settle(ctx) }

// MissingMessage is the loss of an artifact whose file is gone.
const MissingMessage = missingMessage

// RemakeBallast lets tests set the ballast aside without waiting for Run.
func (a *Archive) RemakeBallast(ctx context.Context) { a.space.remakeBallast(ctx) }
