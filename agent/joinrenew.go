package agent

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// renewSpread is how much earlier or later than at half life agents renew, so
	// that those which joined together do not renew together.
	renewSpread = 0.1
	// A renewal that fails is tried again after an eighth of what is left.
	renewTries     = 8
	renewSoonest   = 10 * time.Second
	renewLatest    = time.Hour
	renewAfterward = 5 * time.Minute // the certificate has ended
)

// renewal keeps a certificate good: at half of its life it gets the next one.
// The tunnel does not notice.
type renewal struct {
	current func() issued
	changed <-chan struct{} // the certificate was replaced
	renew   func(context.Context) error
	log     *slog.Logger
}

func (r renewal) run(ctx context.Context) {
	failed := false
	for {
		now, i := time.Now(), r.current()
		wait := i.at.Add(time.Duration(float64(i.life) * (0.5 + renewSpread*(rand.Float64()-0.5)))).Sub(now)
		if failed || i.cert == nil {
			wait = retryRenewal(i.at.Add(i.life).Sub(now), rand.Float64())
		}
		t := time.NewTimer(max(wait, 0))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-r.changed:
			t.Stop()
			failed = false
			continue
		case <-t.C:
		}
		err := r.renew(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failed { // once, not at every attempt
			r.log.Warn("the certificate could not be renewed, will keep trying", slog.Time("until", i.at.Add(i.life)), slog.Any("error", err))
		}
		failed = err != nil
	}
}

// retryRenewal is the wait before the next attempt.
func retryRenewal(left time.Duration, random float64) time.Duration {
	if left <= 0 {
		return renewAfterward + time.Duration(random*float64(renewAfterward))
	}
	d := min(max(left/renewTries, renewSoonest), renewLatest)
	return d/2 + time.Duration(random*float64(d)/2)
}
