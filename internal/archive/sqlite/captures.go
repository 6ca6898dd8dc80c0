package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/sqlitefile"
)

// InsertCapture implements ops.Catalogue.
func (c *Catalogue) InsertCapture(ctx context.Context, in ops.Capture) error {
	spec, err := json.Marshal(in.Spec)
	if err != nil {
		return ops.Errorf(ops.Invalid, "the spec of capture %s cannot be stored: %w", in.ID, err)
	}
	return c.change(ctx, "insert capture", func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO capture
			(id, project, service, spec_json, state, reason, actor, note, created_ms, finished_ms, pinned, imported)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			in.ID, in.Project, in.Service, string(spec), in.State, storable(in.Reason), storable(in.Actor), storable(in.Note),
			millis(in.Created), millis(in.Finished), number(in.Pinned), number(in.Imported))
		if sqlitefile.IsDuplicate(err) {
			return ops.Errorf(ops.Conflict, "capture %s exists already", in.ID)
		}
		if err != nil {
			return err
		}
		for i, t := range in.Targets {
			instance, err := instanceJSON(t.Instance)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, `INSERT INTO capture_target
				(capture_id, instance_id, position, instance_json, state, reason, window_start_ms, window_end_ms, stopped_early, losses_json)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
				in.ID, t.Instance.ID, i, instance, t.State, storable(t.Reason),
				millis(t.WindowStart), millis(t.WindowEnd), number(t.StoppedEarly), lossesJSON(t.Losses))
			if sqlitefile.IsDuplicate(err) {
				return ops.Errorf(ops.Conflict, "capture %s names instance %s twice", in.ID, t.Instance.ID)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// UpdateCapture implements ops.Catalogue.
func (c *Catalogue) UpdateCapture(ctx context.Context, in ops.Capture) error {
	n, err := c.exec(ctx, "update capture",
		`UPDATE capture SET state = $1, reason = $2, finished_ms = $3, pinned = $4, imported = $5 WHERE id = $6`,
		in.State, storable(in.Reason), millis(in.Finished), number(in.Pinned), number(in.Imported), in.ID)
	if err == nil && n == 0 {
		return noCapture(in.ID)
	}
	return err
}

// UpdateTarget implements ops.Catalogue.
func (c *Catalogue) UpdateTarget(ctx context.Context, id ops.CaptureID, t ops.CaptureTarget) error {
	n, err := c.exec(ctx, "update target",
		`UPDATE capture_target SET state = $1, reason = $2, window_start_ms = $3, window_end_ms = $4, stopped_early = $5, losses_json = $6
		WHERE capture_id = $7 AND instance_id = $8`,
		t.State, storable(t.Reason), millis(t.WindowStart), millis(t.WindowEnd), number(t.StoppedEarly), lossesJSON(t.Losses), id, t.Instance.ID)
	if err == nil && n == 0 {
		return ops.Errorf(ops.NotFound, "capture %s has no instance %s", id, t.Instance.ID)
	}
	return err
}

// PutArtifact implements ops.Catalogue.
func (c *Catalogue) PutArtifact(ctx context.Context, ref ops.ArtifactRef, a ops.Artifact, s ops.ArtifactState) error {
	return c.change(ctx, "put artifact", func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO artifact
			(capture_id, instance_id, name, kind, phase, taken_ms, window_start_ms, window_end_ms, size_bytes, sha256, losses_json, partial, derived, state)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
			ON CONFLICT (capture_id, instance_id, name) DO UPDATE SET
				kind = excluded.kind, phase = excluded.phase, taken_ms = excluded.taken_ms,
				window_start_ms = excluded.window_start_ms, window_end_ms = excluded.window_end_ms,
				size_bytes = excluded.size_bytes, sha256 = excluded.sha256, losses_json = excluded.losses_json,
				partial = excluded.partial, derived = excluded.derived, state = excluded.state`,
			ref.Capture, ref.Instance, ref.Name, storable(string(a.Kind)), storable(string(a.Phase)), millis(a.TakenAt), millis(a.WindowStart), millis(a.WindowEnd),
			a.SizeBytes, a.SHA256, lossesJSON(a.Losses), number(a.Partial), number(a.Derived), s)
		if sqlitefile.IsOrphan(err) {
			return ops.Errorf(ops.NotFound, "capture %s has no instance %s", ref.Capture, ref.Instance)
		}
		return err
	})
}

// DeleteArtifact implements ops.Catalogue.
func (c *Catalogue) DeleteArtifact(ctx context.Context, ref ops.ArtifactRef) error {
	n, err := c.exec(ctx, "delete artifact",
		`DELETE FROM artifact WHERE capture_id = $1 AND instance_id = $2 AND name = $3`, ref.Capture, ref.Instance, ref.Name)
	if err == nil && n == 0 {
		return ops.Errorf(ops.NotFound, "there is no artifact %s", ref)
	}
	return err
}

// DeleteCapture implements ops.Catalogue.
func (c *Catalogue) DeleteCapture(ctx context.Context, id ops.CaptureID) error {
	n, err := c.exec(ctx, "delete capture", `DELETE FROM capture WHERE id = $1`, id)
	if err == nil && n == 0 {
		return noCapture(id)
	}
	return err
}

// Capture implements ops.Catalogue.
func (c *Catalogue) Capture(ctx context.Context, id ops.CaptureID) (ops.Capture, error) {
	found, err := c.captures(ctx, "read capture", `WHERE id = $1`, id)
	if err != nil {
		return ops.Capture{}, err
	}
	if len(found) == 0 {
		return ops.Capture{}, noCapture(id)
	}
	return found[0], nil
}

// Captures implements ops.Catalogue.
func (c *Catalogue) Captures(ctx context.Context, f ops.CaptureFilter) ([]ops.Capture, error) {
	var where []string
	var args []any
	and := func(condition string, arg any) {
		args = append(args, arg)
		where = append(where, fmt.Sprintf(condition, len(args)))
	}
	if f.Project != "" {
		and(`project = $%d`, f.Project)
	}
	if f.Service != "" {
		and(`service = $%d`, f.Service)
	}
	if f.Instance != "" {
		and(`id IN (SELECT capture_id FROM capture_target WHERE instance_id = $%d)`, f.Instance)
	}
	if f.Before != "" {
		and(`id < $%d`, f.Before)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 50
	}
	args = append(args, limit)
	tail := fmt.Sprintf(`ORDER BY id DESC LIMIT $%d`, len(args))
	if len(where) > 0 {
		tail = `WHERE ` + strings.Join(where, ` AND `) + ` ` + tail
	}
	return c.captures(ctx, "list captures", tail, args...)
}

// Unfinished implements ops.Catalogue.
func (c *Catalogue) Unfinished(ctx context.Context) ([]ops.Capture, error) {
	return c.captures(ctx, "list unfinished captures", `WHERE state IN ($1, $2, $3) ORDER BY id`,
		ops.CaptureRequested, ops.CaptureCollecting, ops.CaptureCommitting)
}

// captures reads the captures that a query's tail selects, with all they hold.
func (c *Catalogue) captures(ctx context.Context, doing, tail string, args ...any) ([]ops.Capture, error) {
	var found []ops.Capture
	err := c.view(ctx, doing, func(tx *sql.Tx) error {
		err := each(ctx, tx, func(rows *sql.Rows) error {
			var (
				x                 ops.Capture
				spec              string
				created, finished int64
			)
			if err := rows.Scan(&x.ID, &x.Project, &x.Service, &spec, &x.State, &x.Reason, &x.Actor, &x.Note, &created, &finished, &x.Pinned, &x.Imported); err != nil {
				return err
			}
			x.Created, x.Finished = moment(created), moment(finished)
			found = append(found, x)
			return decode(spec, &found[len(found)-1].Spec)
		}, `SELECT id, project, service, spec_json, state, reason, actor, note, created_ms, finished_ms, pinned, imported FROM capture `+tail, args...)
		if err != nil {
			return err
		}
		for i := range found {
			if err := fill(ctx, tx, &found[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

func fill(ctx context.Context, tx *sql.Tx, x *ops.Capture) error {
	at := map[ops.InstanceID]int{}
	err := each(ctx, tx, func(rows *sql.Rows) error {
		var (
			t                ops.CaptureTarget
			instance, losses string
			start, end       int64
		)
		if err := rows.Scan(&instance, &t.State, &t.Reason, &start, &end, &t.StoppedEarly, &losses); err != nil {
			return err
		}
		t.WindowStart, t.WindowEnd = moment(start), moment(end)
		if err := errors.Join(decode(instance, &t.Instance), decode(losses, &t.Losses)); err != nil {
			return err
		}
		at[t.Instance.ID] = len(x.Targets)
		x.Targets = append(x.Targets, t)
		return nil
	}, `SELECT instance_json, state, reason, window_start_ms, window_end_ms, stopped_early, losses_json
		FROM capture_target WHERE capture_id = $1 ORDER BY position`, x.ID)
	if err != nil {
		return err
	}
	return artifacts(ctx, tx, x.ID, func(row ops.ArtifactRow) {
		if i, ok := at[row.Ref.Instance]; ok && row.State != ops.ArtifactReceiving {
			x.Targets[i].Artifacts = append(x.Targets[i].Artifacts, row.Artifact)
		}
	})
}

// ArtifactRows implements ops.Catalogue.
func (c *Catalogue) ArtifactRows(ctx context.Context, id ops.CaptureID) ([]ops.ArtifactRow, error) {
	var out []ops.ArtifactRow
	err := c.view(ctx, "list artifacts", func(tx *sql.Tx) error {
		return artifacts(ctx, tx, id, func(row ops.ArtifactRow) { out = append(out, row) })
	})
	return out, err
}

func artifacts(ctx context.Context, tx *sql.Tx, id ops.CaptureID, fn func(ops.ArtifactRow)) error {
	return each(ctx, tx, func(rows *sql.Rows) error {
		var (
			row               = ops.ArtifactRow{Ref: ops.ArtifactRef{Capture: id}}
			a                 = &row.Artifact
			losses            string
			taken, start, end int64
		)
		if err := rows.Scan(&row.Ref.Instance, &a.Name, &a.Kind, &a.Phase, &taken, &start, &end, &a.SizeBytes, &a.SHA256, &losses, &a.Partial, &a.Derived, &row.State); err != nil {
			return err
		}
		row.Ref.Name = a.Name
		a.TakenAt, a.WindowStart, a.WindowEnd = moment(taken), moment(start), moment(end)
		if err := decode(losses, &a.Losses); err != nil {
			return err
		}
		fn(row)
		return nil
	}, `SELECT instance_id, name, kind, phase, taken_ms, window_start_ms, window_end_ms, size_bytes, sha256, losses_json, partial, derived, state
		FROM artifact WHERE capture_id = $1 ORDER BY instance_id, name`, id)
}

func noCapture(id ops.CaptureID) error {
	return ops.Errorf(ops.NotFound, "there is no capture %s", id)
}

func decode(text string, into any) error {
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return ops.Errorf(ops.Corrupt, "a row of the catalogue is damaged: %w", err)
	}
	return nil
}

func lossesJSON(losses []ops.Loss) string {
	if len(losses) == 0 {
		return "[]"
	}
	b, err := json.Marshal(losses)
	if err != nil {
		panic("losses are strings: " + err.Error())
	}
	return string(b)
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
