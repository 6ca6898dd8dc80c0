package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/ops"
)

const userColumns = "SELECT name, hash, disabled, created, last_login, temporary FROM access_user"

func scanUser(rows *sql.Rows) (u auth.User, err error) {
	var disabled, created, last, temporary int64
	err = rows.Scan(&u.Name, &u.Hash, &disabled, &created, &last, &temporary)
	u.Disabled, u.Created, u.LastLogin, u.Temporary = disabled != 0, fromMillis(created), fromMillis(last), temporary != 0
	return u, err
}

// User implements auth.Store.
func (s *Store) User(ctx context.Context, name string) (auth.User, error) {
	rows, err := list(ctx, s, "read user", scanUser, userColumns+" WHERE name = $1", name)
	return one(rows, err, fmt.Sprintf("user %.70q", name))
}

// Users implements auth.Store.
func (s *Store) Users(ctx context.Context) ([]auth.User, error) {
	return list(ctx, s, "list users", scanUser, userColumns+" ORDER BY name")
}

// PutUser implements auth.Store.
func (s *Store) PutUser(ctx context.Context, u auth.User, grants []auth.Grant, keep string, e auth.Event) error {
	return s.change(ctx, "write user", &e, func(tx *sql.Tx) error {
		holder := "user:" + u.Name
		if _, err := tx.ExecContext(ctx, `DELETE FROM access_session WHERE holder = $1 AND hash <> $2
			AND EXISTS (SELECT 1 FROM access_user WHERE name = $3 AND (hash <> $4 OR $5 <> 0))`, holder, keep, u.Name, u.Hash, truth(u.Disabled)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO access_user (name, hash, disabled, created, last_login, temporary) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, disabled = excluded.disabled, temporary = excluded.temporary`,
			u.Name, u.Hash, truth(u.Disabled), millis(u.Created), millis(u.LastLogin), truth(u.Temporary)); err != nil {
			return err
		}
		if grants == nil {
			return nil
		}
		return replaceGrants(ctx, tx, holder, grants)
	})
}

func replaceGrants(ctx context.Context, tx *sql.Tx, holder string, grants []auth.Grant) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM access_binding WHERE holder = $1", holder); err != nil {
		return err
	}
	for _, g := range grants {
		if _, err := tx.ExecContext(ctx, "INSERT INTO access_binding (holder, role, scope) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", holder, string(g.Role), string(g.Scope)); err != nil {
			return err
		}
	}
	return nil
}

// DeleteUser implements auth.Store.
func (s *Store) DeleteUser(ctx context.Context, name string, e auth.Event) error {
	return s.change(ctx, "delete user", &e, func(tx *sql.Tx) error {
		holder := "user:" + name
		for _, query := range []string{
			"DELETE FROM access_session WHERE holder = $1",
			"DELETE FROM access_binding WHERE holder IN (SELECT 'token:' || id FROM access_token WHERE owner = $1)",
			"DELETE FROM access_token WHERE owner = $1",
			"DELETE FROM access_binding WHERE holder = $1",
			"DELETE FROM access_user WHERE 'user:' || name = $1",
		} {
			if _, err := tx.ExecContext(ctx, query, holder); err != nil {
				return err
			}
		}
		return nil
	})
}

func scanBinding(rows *sql.Rows) (b auth.Binding, err error) {
	return b, rows.Scan(&b.Holder, &b.Role, &b.Scope)
}

// Bindings implements auth.Store.
func (s *Store) Bindings(ctx context.Context) ([]auth.Binding, error) {
	return list(ctx, s, "list roles", scanBinding, "SELECT holder, role, scope FROM access_binding ORDER BY holder, role, scope")
}

// Grants implements auth.Store.
func (s *Store) Grants(ctx context.Context, holders ...auth.Holder) ([]auth.Grant, error) {
	args := make([]any, len(holders))
	marks := make([]string, len(holders))
	for i, h := range holders {
		args[i], marks[i] = string(h), fmt.Sprintf("$%d", i+1)
	}
	bindings, err := list(ctx, s, "read roles", scanBinding, "SELECT holder, role, scope FROM access_binding WHERE holder IN ("+strings.Join(marks, ", ")+") ORDER BY holder, role, scope", args...)
	out := make([]auth.Grant, len(bindings))
	for i, b := range bindings {
		out[i] = b.Grant
	}
	return out, err
}

// Bind implements auth.Store.
func (s *Store) Bind(ctx context.Context, b auth.Binding, e auth.Event) error {
	return s.exec(ctx, "grant", &e, "INSERT INTO access_binding (holder, role, scope) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", string(b.Holder), string(b.Role), string(b.Scope))
}

// Unbind implements auth.Store.
func (s *Store) Unbind(ctx context.Context, b auth.Binding, e auth.Event) error {
	return s.change(ctx, "revoke", &e, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, "DELETE FROM access_binding WHERE holder = $1 AND role = $2 AND scope = $3", string(b.Holder), string(b.Role), string(b.Scope))
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return orNotFound(err, "%s does not hold %s: see `ops user list`", b.Holder, b.Grant)
		}
		return nil
	})
}

func orNotFound(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return ops.Errorf(ops.NotFound, format, args...)
}

func note(ctx context.Context, tx *sql.Tx, e auth.Event) error {
	body, err := json.Marshal(e)
	if err == nil {
		_, err = tx.ExecContext(ctx, "INSERT INTO access_event (body) VALUES ($1)", string(body))
	}
	return err
}

// Note implements auth.Store.
func (s *Store) Note(ctx context.Context, e auth.Event) error {
	return s.change(ctx, "note", &e, func(*sql.Tx) error { return nil })
}

// Events implements auth.Store.
func (s *Store) Events(ctx context.Context, most int) ([]auth.Event, error) {
	return list(ctx, s, "read events", func(rows *sql.Rows) (e auth.Event, err error) {
		var id int64
		var body string
		if err := rows.Scan(&id, &body); err != nil {
			return e, err
		}
		err = json.Unmarshal([]byte(body), &e)
		e.ID = id
		return e, err
	}, "SELECT id, body FROM access_event ORDER BY id LIMIT $1", most)
}

// Forget implements auth.Store.
func (s *Store) Forget(ctx context.Context, upTo int64) error {
	return s.exec(ctx, "forget events", nil, "DELETE FROM access_event WHERE id <= $1", upTo)
}
