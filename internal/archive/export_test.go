package archive

import (
	"context"
	"time"
)

// Sweep lets tests run retention at a time of their choice.
func (a *Archive) Sweep(ctx context.Context, now time.Time) error { return a.sweep(ctx, now) }
