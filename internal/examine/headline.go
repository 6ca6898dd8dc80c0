package examine

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opscenter/opscenter/internal/ops"
)

// Headline returns what was said last of a capture, in a line; NotFound if
// nothing was said yet. It never diagnoses, and reads each capture's findings once.
func (k *Keeper) Headline(ctx context.Context, id ops.CaptureID) (ops.Headline, error) {
	k.mu.Lock()
	v, ok := k.headlines[id]
	k.mu.Unlock()
	if ok {
		return v, nil
	}
	f, err := k.c.Archive.Findings(ctx, id)
	if err != nil {
		return ops.Headline{}, err
	}
	return k.remember(id, f)
}

// maxHeadlines bounds those that are remembered: some hundred bytes each.
const maxHeadlines = 5000

func (k *Keeper) remember(id ops.CaptureID, f ops.Findings) (ops.Headline, error) {
	v, err := headlineOf(f)
	if err != nil {
		return v, fmt.Errorf("findings of capture %s: %w", id, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.headlines) >= maxHeadlines {
		clear(k.headlines)
	}
	k.headlines[id] = v
	return v, nil
}

// said is as much of a diagnosis as its line needs: that of one instance, or a
// set of them.
type said struct {
	Findings []struct {
		Rule     ops.RuleID   `json:"rule"`
		Severity ops.Severity `json:"severity"`
		Score    int          `json:"score"`
		Title    string       `json:"title"`
	} `json:"findings"`
	Checked []struct {
		Verdict string `json:"verdict"`
	} `json:"checked"`
	Instances []said `json:"instances"`
}

func headlineOf(f ops.Findings) (ops.Headline, error) {
	v := ops.Headline{Title: map[ops.Lang]string{}}
	for lang, body := range f.Bodies {
		var all said
		if err := json.Unmarshal(body, &all); err != nil {
			return v, ops.Errorf(ops.Corrupt, "%w", err)
		}
		v.Critical, v.Warning, v.Notice, v.Unchecked = 0, 0, 0, 0
		worst := -1
		for _, one := range append(all.Instances, all) {
			for _, x := range one.Findings {
				switch x.Severity {
				case ops.Critical:
					v.Critical++
				case ops.Warning:
					v.Warning++
				case ops.Notice:
					v.Notice++
				}
				if x.Score > worst {
					worst = x.Score
					v.Rule, v.Severity, v.Title[lang] = x.Rule, x.Severity, x.Title
				}
			}
			for _, c := range one.Checked {
				if c.Verdict == "could_not_check" {
					v.Unchecked++
				}
			}
		}
	}
	return v, nil
}

// Without ends the diagnosis of a capture if one is under way, and lets none
// begin until fn has returned: fn deletes the capture.
func (k *Keeper) Without(ctx context.Context, id ops.CaptureID, fn func() error) error {
	k.mu.Lock()
	k.barred[id]++
	r := k.under[id]
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.barred[id]--; k.barred[id] == 0 {
			delete(k.barred, id)
		}
		delete(k.headlines, id)
	}()
	if r != nil {
		r.stop()
		select {
		case <-r.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fn()
}

// run is a diagnosis under way.
type run struct {
	stop context.CancelFunc
	done chan struct{}
}

// enter notes that a capture is being diagnosed, until leave is called. Conflict
// while it is being deleted.
func (k *Keeper) enter(ctx context.Context, id ops.CaptureID) (_ context.Context, leave func(), _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.barred[id] > 0 {
		return nil, nil, ops.Errorf(ops.Conflict, "capture %s is being deleted", id)
	}
	ctx, stop := context.WithCancel(ctx)
	r := &run{stop: stop, done: make(chan struct{})}
	k.under[id] = r
	return ctx, func() {
		stop()
		k.mu.Lock()
		delete(k.under, id)
		k.mu.Unlock()
		close(r.done)
	}, nil
}
