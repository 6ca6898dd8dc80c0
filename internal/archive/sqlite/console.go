package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

var _ ops.CallBook = (*Catalogue)(nil)

const (
	keptCalls = 10_000
	maxSaved  = 1000
)

// AddCalls implements ops.CallBook.
func (c *Catalogue) AddCalls(ctx context.Context, records []ops.CallRecord) error {
	return c.change(ctx, "add calls", func(ctx context.Context, tx *sql.Tx) error {
		for _, r := range records {
			instances, err := json.Marshal(r.Instances)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO console_call (id, at_ms, actor, project, service, instances, method, request, mutating, code, message, duration_us, sent, received) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
				r.ID, millis(r.At), r.Actor, r.Project, r.Service, string(instances), r.Method, string(r.Request), r.Mutating, r.Code, r.Message, r.Duration.Microseconds(), r.Sent, r.Received); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM console_call WHERE id < (SELECT id FROM console_call ORDER BY id DESC LIMIT 1 OFFSET $1)`, keptCalls-1)
		return err
	})
}

// Calls implements ops.CallBook.
func (c *Catalogue) Calls(ctx context.Context, f ops.CallFilter) (out []ops.CallRecord, err error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	rows, err := c.readers.QueryContext(ctx, `SELECT id, at_ms, actor, project, service, instances, method, request, mutating, code, message, duration_us, sent, received FROM console_call
		WHERE ($1 = '' OR project = $1) AND ($2 = '' OR service = $2) AND ($3 = '' OR method = $3) AND ($4 = '' OR actor = $4) AND ($5 = '' OR id < $5) ORDER BY id DESC LIMIT $6`,
		f.Project, f.Service, f.Method, f.Actor, f.Before, min(f.Limit, 500))
	if err != nil {
		return nil, c.failure(ctx, "read calls", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {
		var r ops.CallRecord
		var at, micros int64
		var instances, request string
		if err := rows.Scan(&r.ID, &at, &r.Actor, &r.Project, &r.Service, &instances, &r.Method, &request, &r.Mutating, &r.Code, &r.Message, &micros, &r.Sent, &r.Received); err != nil {
			return nil, c.failure(ctx, "read calls", err)
		}
		if err := json.Unmarshal([]byte(instances), &r.Instances); err != nil {
			return nil, c.failure(ctx, "read calls", err)
		}
		r.At, r.Duration, r.Request = moment(at), time.Duration(micros)*time.Microsecond, json.RawMessage(request)
		out = append(out, r)
	}
	return out, c.failure(ctx, "read calls", rows.Err())
}

// SaveCall implements ops.CallBook.
func (c *Catalogue) SaveCall(ctx context.Context, s ops.SavedCall) error {
	return c.change(ctx, "save a call", func(ctx context.Context, tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM console_saved`).Scan(&n); err != nil {
			return err
		}
		if n >= maxSaved {
			return ops.Errorf(ops.Exhausted, "%d requests are saved already, which is as many as are kept: delete some", n)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO console_saved (id, name, at_ms, actor, project, service, method, request) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			s.ID, s.Name, millis(s.At), s.Actor, s.Project, s.Service, s.Method, string(s.Request))
		return err
	})
}

// SavedCalls implements ops.CallBook.
func (c *Catalogue) SavedCalls(ctx context.Context, p ops.ProjectName, s ops.ServiceName) (out []ops.SavedCall, err error) {
	rows, err := c.readers.QueryContext(ctx, `SELECT id, name, at_ms, actor, project, service, method, request FROM console_saved
		WHERE ($1 = '' OR project = $1) AND ($2 = '' OR service = $2) ORDER BY name, id`, p, s)
	if err != nil {
		return nil, c.failure(ctx, "read saved calls", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {
		var r ops.SavedCall
		var at int64
		var request string
		if err := rows.Scan(&r.ID, &r.Name, &at, &r.Actor, &r.Project, &r.Service, &r.Method, &request); err != nil {
			return nil, c.failure(ctx, "read saved calls", err)
		}
		r.At, r.Request = moment(at), json.RawMessage(request)
		out = append(out, r)
	}
	return out, c.failure(ctx, "read saved calls", rows.Err())
}

// DeleteSavedCall implements ops.CallBook.
func (c *Catalogue) DeleteSavedCall(ctx context.Context, id string) error {
	return c.deleteOne(ctx, "saved request "+id, `DELETE FROM console_saved WHERE id = $1`, id)
}

// PutDescriptors implements ops.CallBook.
func (c *Catalogue) PutDescriptors(ctx context.Context, d ops.DescriptorSet) error {
	return c.change(ctx, "put descriptors", func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO console_descriptors (project, service, name, at_ms, actor, body) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (project, service) DO UPDATE SET name = excluded.name, at_ms = excluded.at_ms, actor = excluded.actor, body = excluded.body`,
			d.Project, d.Service, d.Name, millis(d.At), d.Actor, d.Body)
		return err
	})
}

// Descriptors implements ops.CallBook.
func (c *Catalogue) Descriptors(ctx context.Context, p ops.ProjectName, s ops.ServiceName) (ops.DescriptorSet, error) {
	d := ops.DescriptorSet{Project: p, Service: s}
	var at int64
	err := c.readers.QueryRowContext(ctx, `SELECT name, at_ms, actor, body FROM console_descriptors WHERE project = $1 AND service = $2`, p, s).Scan(&d.Name, &at, &d.Actor, &d.Body)
	if errors.Is(err, sql.ErrNoRows) {
		return d, ops.Errorf(ops.NotFound, "no descriptor set was uploaded for %s/%s", p, s)
	}
	d.At = moment(at)
	return d, c.failure(ctx, "read descriptors", err)
}

// ListDescriptors implements ops.CallBook.
func (c *Catalogue) ListDescriptors(ctx context.Context) (out []ops.DescriptorSet, err error) {
	rows, err := c.readers.QueryContext(ctx, `SELECT project, service, name, at_ms, actor FROM console_descriptors ORDER BY project, service`)
	if err != nil {
		return nil, c.failure(ctx, "read descriptors", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {
		var d ops.DescriptorSet
		var at int64
		if err := rows.Scan(&d.Project, &d.Service, &d.Name, &at, &d.Actor); err != nil {
			return nil, c.failure(ctx, "read descriptors", err)
		}
		d.At = moment(at)
		out = append(out, d)
	}
	return out, c.failure(ctx, "read descriptors", rows.Err())
}

// DeleteDescriptors implements ops.CallBook.
func (c *Catalogue) DeleteDescriptors(ctx context.Context, p ops.ProjectName, s ops.ServiceName) error {
	return c.deleteOne(ctx, "descriptor set of "+string(p)+"/"+string(s), `DELETE FROM console_descriptors WHERE project = $1 AND service = $2`, p, s)
}

func (c *Catalogue) deleteOne(ctx context.Context, what, query string, args ...any) error {
	return c.change(ctx, "delete "+what, func(ctx context.Context, tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return ops.Errorf(ops.NotFound, "there is no %s: it may have been deleted meanwhile", what)
	})
}
