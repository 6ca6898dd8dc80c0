package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/opscenter/opscenter/internal/auth"
)

const sessionColumns = "SELECT hash, holder, groups, created, seen, address, user_agent FROM access_session"

func scanSession(rows *sql.Rows) (x auth.Session, err error) {
	var groups string
	var created, seen int64
	if err := rows.Scan(&x.Hash, &x.Holder, &groups, &created, &seen, &x.Address, &x.UserAgent); err != nil {
		return x, err
	}
	x.Created, x.Seen = fromMillis(created), fromMillis(seen)
	return x, json.Unmarshal([]byte(groups), &x.Groups)
}

func groupsText(groups []string) (string, error) {
	b, err := json.Marshal(groups)
	return string(b), err
}

// Session implements auth.Store.
func (s *Store) Session(ctx context.Context, hash string) (auth.Session, error) {
	rows, err := list(ctx, s, "read session", scanSession, sessionColumns+" WHERE hash = $1", hash)
	return one(rows, err, "such session")
}

// Sessions implements auth.Store.
func (s *Store) Sessions(ctx context.Context, h auth.Holder) ([]auth.Session, error) {
	return list(ctx, s, "list sessions", scanSession, sessionColumns+" WHERE holder = $1 ORDER BY seen DESC, hash", string(h))
}

// AddSession implements auth.Store.
func (s *Store) AddSession(ctx context.Context, x auth.Session, instead string, most int, before time.Time, e auth.Event) error {
	groups, err := groupsText(x.Groups)
	if err != nil {
		return err
	}
	return s.change(ctx, "begin session", &e, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM access_session WHERE hash = $1 OR created < $2", instead, millis(before)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO access_session (hash, holder, groups, created, seen, address, user_agent) VALUES ($1, $2, $3, $4, $5, $6, $7)",
			x.Hash, string(x.Holder), groups, millis(x.Created), millis(x.Seen), x.Address, x.UserAgent); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM access_session WHERE holder = $1 AND hash NOT IN
			(SELECT hash FROM access_session WHERE holder = $2 ORDER BY created DESC, rowid DESC LIMIT $3)`, string(x.Holder), string(x.Holder), most); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE access_user SET last_login = $1 WHERE 'user:' || name = $2", millis(x.Created), string(x.Holder))
		return err
	})
}

// SeenSession implements auth.Store.
func (s *Store) SeenSession(ctx context.Context, hash string, at time.Time) error {
	return s.exec(ctx, "note session", nil, "UPDATE access_session SET seen = $1 WHERE hash = $2", millis(at), hash)
}

// EndSessions implements auth.Store.
func (s *Store) EndSessions(ctx context.Context, h auth.Holder, hash, keep string, e auth.Event) (n int, err error) {
	err = s.change(ctx, "end sessions", &e, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, "DELETE FROM access_session WHERE holder = $1 AND ($2 = '' OR hash = $3) AND hash <> $4", string(h), hash, hash, keep)
		if err != nil {
			return err
		}
		changed, err := r.RowsAffected()
		n = int(changed)
		return err
	})
	return n, err
}

const tokenColumns = "SELECT id, hash, name, owner, groups, created, expires, used, revoked FROM access_token"

func scanToken(rows *sql.Rows) (t auth.APIToken, err error) {
	var groups string
	var created, expires, used, revoked int64
	if err := rows.Scan(&t.ID, &t.Hash, &t.Name, &t.Owner, &groups, &created, &expires, &used, &revoked); err != nil {
		return t, err
	}
	t.Created, t.Expires, t.Used, t.Revoked = fromMillis(created), fromMillis(expires), fromMillis(used), fromMillis(revoked)
	return t, json.Unmarshal([]byte(groups), &t.Groups)
}

// Token implements auth.Store.
func (s *Store) Token(ctx context.Context, hash string) (auth.APIToken, error) {
	rows, err := list(ctx, s, "read token", scanToken, tokenColumns+" WHERE hash = $1", hash)
	return one(rows, err, "such token")
}

// Tokens implements auth.Store.
func (s *Store) Tokens(ctx context.Context) ([]auth.APIToken, error) {
	return list(ctx, s, "list tokens", scanToken, tokenColumns+" ORDER BY id DESC")
}

// AddToken implements auth.Store.
func (s *Store) AddToken(ctx context.Context, t auth.APIToken, grants []auth.Grant, e auth.Event) error {
	groups, err := groupsText(t.Groups)
	if err != nil {
		return err
	}
	return s.change(ctx, "write token", &e, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO access_token (id, hash, name, owner, groups, created, expires, used, revoked) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0)",
			t.ID, t.Hash, t.Name, string(t.Owner), groups, millis(t.Created), millis(t.Expires)); err != nil {
			return err
		}
		return replaceGrants(ctx, tx, "token:"+t.ID, grants)
	})
}

// UsedToken implements auth.Store.
func (s *Store) UsedToken(ctx context.Context, id string, at time.Time) error {
	return s.exec(ctx, "note token", nil, "UPDATE access_token SET used = $1 WHERE id = $2", millis(at), id)
}

// RevokeToken implements auth.Store.
func (s *Store) RevokeToken(ctx context.Context, id string, at time.Time, e auth.Event) error {
	return s.change(ctx, "revoke token", &e, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, "UPDATE access_token SET revoked = $1 WHERE id = $2 AND revoked = 0", millis(at), id)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return orNotFound(err, "there is no token %.40q, or it is revoked already", id)
		}
		return nil
	})
}
