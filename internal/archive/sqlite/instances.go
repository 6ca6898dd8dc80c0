package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"math"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// PutInstance implements ops.Catalogue.
func (c *Catalogue) PutInstance(ctx context.Context, i ops.Instance) error {
	text, err := instanceJSON(i)
	if err != nil {
		return err
	}
	_, err = c.exec(ctx, "put instance", `INSERT INTO instance (id, last_seen_ms, instance_json) VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET last_seen_ms = excluded.last_seen_ms, instance_json = excluded.instance_json`,
		i.ID, millis(i.LastSeen), text)
	return err
}

// Instances implements ops.Catalogue.
func (c *Catalogue) Instances(ctx context.Context, since time.Time) ([]ops.Instance, error) {
	var out []ops.Instance
	err := c.view(ctx, "list instances", func(tx *sql.Tx) error {
		return each(ctx, tx, func(rows *sql.Rows) error {
			var text string
			if err := rows.Scan(&text); err != nil {
				return err
			}
			out = append(out, ops.Instance{})
			return decode(text, &out[len(out)-1])
		}, `SELECT instance_json FROM instance WHERE last_seen_ms >= $1 ORDER BY last_seen_ms, id`, millis(since))
	})
	return out, err
}

// DeleteInstances implements ops.Catalogue.
func (c *Catalogue) DeleteInstances(ctx context.Context, before time.Time) error {
	_, err := c.exec(ctx, "delete instances", `DELETE FROM instance WHERE last_seen_ms < $1`, millis(before))
	return err
}

// instanceJSON is an instance as rows keep it: ops.Instance under its own field
// names, which a golden test pins. Numbers that JSON cannot say become 0, for an
// instance may send anything.
func instanceJSON(i ops.Instance) (string, error) {
	i.Heartbeat = finite(i.Heartbeat)
	i.Process.CPUQuotaCores = finiteOrZero(i.Process.CPUQuotaCores)
	b, err := json.Marshal(i)
	if err != nil {
		// A time beyond year 9999 gets here.
		return "", ops.Errorf(ops.Invalid, "instance %s cannot be stored: %w", i.ID, err)
	}
	return storable(string(b)), nil
}

func finite(h ops.Heartbeat) ops.Heartbeat {
	for _, f := range []*float64{&h.CPUCores, &h.GCCPUFraction, &h.SchedLatencyP99Second, &h.ThrottledFraction, &h.MutexWaitRate, &h.CPUQuotaCores} {
		*f = finiteOrZero(*f)
	}
	return h
}

func finiteOrZero(f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}
