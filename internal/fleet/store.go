package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

const (
	// flushEvery is how much history a crash of the centre may cost.
	flushEvery = 10 * time.Second
	// refreshAfter is how old the row of an instance that lives on may grow. It
	// must stay well below TombstoneFor, which deletes rows by when they were last seen.
	refreshAfter = 10 * time.Minute
	tidyEvery    = time.Hour
	lastWriteFor = 10 * time.Second
)

// Load brings back who was known before the centre restarted. Those that were
// alive are suspect until they join again, and get a whole lease to do so. Run
// does it if nobody did before; whoever joins in between finds no predecessor.
func (f *Fleet) Load(ctx context.Context) error {
	if f.store == nil || f.loaded.Load() {
		return nil
	}
	now := time.Now()
	rows, err := f.store.Instances(ctx, now.Add(-ops.TombstoneFor))
	if err != nil {
		return fmt.Errorf("loading instances: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loaded.Store(true)
	for _, inst := range rows {
		if f.members[inst.ID] != nil {
			continue // it has joined already
		}
		m := &member{inst: inst, renewed: now, stored: now, thresholds: f.rules.Of(inst.Key())}
		m.inst.Self = false
		if inst.State == ops.InstanceGone {
			m.renewed = inst.LastSeen
		} else {
			f.alive.count(inst, 1)
			f.setState(m, ops.InstanceSuspect, "not heard of since the centre restarted", ops.SaysCentre, now)
		}
		f.add(m)
	}
	for _, m := range f.members {
		if m.link != nil {
			f.adopt(m)
		}
	}
	return nil
}

// write keeps rows and history in the store, never on behalf of a single heartbeat.
func (f *Fleet) write(ctx context.Context) error {
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	if err := f.tidy(ctx); err != nil {
		return err
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.wake:
			err = f.writeRows(ctx)
		case <-flush.C:
			f.markStale(time.Now())
			if err = f.writeRows(ctx); err == nil {
				err = f.writeHistory(ctx)
			}
		case <-tidy.C:
			err = f.tidy(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// writeLast writes what there is when the centre ends in good order.
func (f *Fleet) writeLast() error {
	if f.store == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastWriteFor)
	defer cancel()
	f.mu.Lock()
	for id, m := range f.members {
		f.settle(m)
		if m.inst.State != ops.InstanceGone {
			f.dirty[id] = struct{}{}
		}
	}
	f.mu.Unlock()
	return errors.Join(f.writeHistory(ctx), f.writeRows(ctx))
}

func (f *Fleet) markStale(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, m := range f.members {
		if m.inst.State != ops.InstanceGone && now.Sub(m.stored) >= refreshAfter {
			f.dirty[id] = struct{}{}
		}
	}
}

func (f *Fleet) writeRows(ctx context.Context) error {
	f.mu.Lock()
	rows := make([]ops.Instance, 0, len(f.dirty))
	now := time.Now()
	for id := range f.dirty {
		if m := f.members[id]; m != nil {
			rows = append(rows, m.inst)
			m.stored = now
		}
	}
	clear(f.dirty)
	f.mu.Unlock()
	for n, inst := range rows {
		if err := f.store.PutInstance(ctx, inst); err != nil {
			f.mu.Lock()
			for _, rest := range rows[n:] {
				f.dirty[rest.ID] = struct{}{}
			}
			f.mu.Unlock()
			return f.waitOut(ctx, fmt.Errorf("writing instance %s: %w", inst.ID, err))
		}
	}
	return nil
}

func (f *Fleet) writeHistory(ctx context.Context) error {
	for _, h := range []struct {
		p    *pending
		step time.Duration
	}{{&f.history.fine, ops.HistoryFineStep}, {&f.history.coarse, ops.HistoryCoarseStep}} {
		points := f.takeOff(h.p)
		if len(points) == 0 {
			continue
		}
		err := f.store.AppendHistory(ctx, points, h.step)
		f.land(h.p, err == nil)
		if err != nil {
			return f.waitOut(ctx, fmt.Errorf("writing history: %w", err))
		}
	}
	return nil
}

func (f *Fleet) tidy(ctx context.Context) error {
	now := time.Now()
	err := errors.Join(
		f.store.DeleteInstances(ctx, now.Add(-ops.TombstoneFor)),
		f.store.DeleteHistory(ctx, now.Add(-ops.HistoryFineFor), ops.HistoryFineStep),
		f.store.DeleteHistory(ctx, now.Add(-ops.HistoryCoarseFor), ops.HistoryCoarseStep),
	)
	if err != nil {
		return f.waitOut(ctx, fmt.Errorf("tidying instances and history: %w", err))
	}
	return nil
}

// waitOut drops the errors that end by themselves: a full disk is tried again
// at the next flush, and that ctx ended is told by the caller. All others mean
// that the store cannot be trusted any more.
func (f *Fleet) waitOut(ctx context.Context, err error) error {
	if ctx.Err() == nil && ops.KindOf(err) != ops.Exhausted {
		return err
	}
	f.log.Warn("fleet not written, will try again", "error", err)
	return nil
}
