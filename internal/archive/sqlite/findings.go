package sqlite

import (
	"context"
	"database/sql"

	"github.com/opscenter/opscenter/internal/ops"
)

// PutFindings implements ops.Catalogue.
func (c *Catalogue) PutFindings(ctx context.Context, id ops.CaptureID, f ops.Findings) error {
	return c.change(ctx, "put findings", func(ctx context.Context, tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM capture WHERE id = $1`, id).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return noCapture(id)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM findings WHERE capture_id = $1`, id); err != nil {
			return err
		}
		for lang, body := range f.Bodies {
			if _, err := tx.ExecContext(ctx, `INSERT INTO findings (capture_id, lang, rules, made_ms, body) VALUES ($1, $2, $3, $4, $5)`,
				id, lang, f.Rules, millis(f.Made), body); err != nil {
				return err
			}
		}
		return nil
	})
}

// Findings implements ops.Catalogue.
func (c *Catalogue) Findings(ctx context.Context, id ops.CaptureID) (ops.Findings, error) {
	out := ops.Findings{Bodies: map[ops.Lang][]byte{}}
	rows, err := c.readers.QueryContext(ctx, `SELECT lang, rules, made_ms, body FROM findings WHERE capture_id = $1`, id)
	if err != nil {
		return out, c.failure(ctx, "read findings", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {
		var lang ops.Lang
		var made int64
		var body []byte
		if err := rows.Scan(&lang, &out.Rules, &made, &body); err != nil {
			return out, c.failure(ctx, "read findings", err)
		}
		out.Made, out.Bodies[lang] = moment(made), body
	}
	if err := rows.Err(); err != nil {
		return out, c.failure(ctx, "read findings", err)
	}
	if len(out.Bodies) == 0 {
		return out, ops.Errorf(ops.NotFound, "capture %s has no findings yet", id)
	}
	return out, nil
}
