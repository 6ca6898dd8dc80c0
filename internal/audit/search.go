package audit

import (
	"context"
	"encoding/json"

	"github.com/opscenter/opscenter/internal/ops"
)

// The sizes of a page.
const (
	DefaultPage = 50
	maxPage     = 500
)

// Search returns the actions that match, newest first.
func (l *Log) Search(ctx context.Context, f Filter) ([]Entry, error) {
	switch {
	case f.Limit == 0:
		f.Limit = DefaultPage
	case f.Limit < 0 || f.Limit > maxPage:
		return nil, ops.Errorf(ops.Invalid, "a page of %d is out of range: use 1 to %d", f.Limit, maxPage)
	}
	if !f.From.IsZero() && !f.To.IsZero() && f.To.Before(f.From) {
		return nil, ops.Errorf(ops.Invalid, "the stretch ends (%s) before it begins (%s)", f.To.Format(StampLayout), f.From.Format(StampLayout))
	}
	for _, r := range f.Results {
		switch r {
		case Succeeded, Failed, Partial, Refused, Cancelled, Unknown, Running:
		default:
			return nil, ops.Errorf(ops.Invalid, "the outcome %q is not known: use ok, failed, partial, refused, cancelled, unknown or running", r)
		}
	}
	rows, err := l.store.Search(ctx, f)
	if err != nil {
		return nil, err
	}
	entries, _, err := assemble(rows)
	return entries, err
}

// Entry returns one action; NotFound if there is none of that id.
func (l *Log) Entry(ctx context.Context, id ID) (Entry, error) {
	e, _, err := l.entry(ctx, id)
	return e, err
}

func (l *Log) entry(ctx context.Context, id ID) (Entry, string, error) {
	rows, err := l.store.Search(ctx, Filter{ID: id, Limit: 1})
	if err != nil {
		return Entry{}, "", err
	}
	entries, prints, err := assemble(rows)
	if err != nil {
		return Entry{}, "", err
	}
	if len(entries) == 0 {
		return Entry{}, "", ops.Errorf(ops.NotFound, "there is no action %.60q on record", id)
	}
	return entries[0], prints[0], nil
}

// assemble makes entries of the rows of several actions, each one's together.
func assemble(rows []Row) (out []Entry, prints []string, err error) {
	for _, r := range rows {
		var b body
		if err := json.Unmarshal(r.Body, &b); err != nil {
			return nil, nil, ops.Errorf(ops.Corrupt, "row %d of the record cannot be read: run ops audit verify", r.Seq)
		}
		if b.Kind == rowIntent && b.In != nil {
			out = append(out, Entry{Seq: r.Seq, Hash: r.Hash, ID: b.ID, At: b.At.Time, Intent: *b.In, Outcome: Outcome{Result: Running}})
			prints = append(prints, b.Print)
			continue
		}
		if len(out) == 0 || out[len(out)-1].ID != b.ID {
			continue
		}
		e := &out[len(out)-1]
		switch {
		case b.Kind == rowStep && b.Step != nil:
			e.Steps = append(e.Steps, *b.Step)
		case b.Kind == rowOutcome && b.Out != nil:
			e.Outcome, e.Ended = *b.Out, b.At.Time
		}
	}
	return out, prints, nil
}
