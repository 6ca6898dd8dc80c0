package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// schema is all the game keeps in the database; it lives in a schema of its own,
// so that a database of yours is not littered.
const schema = `
SELECT pg_advisory_xact_lock(20190421);
CREATE SCHEMA IF NOT EXISTS colorgame;
CREATE TABLE IF NOT EXISTS colorgame.player_limits (
	player      text PRIMARY KEY,
	daily_limit bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS colorgame.bet_records (
	id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at     timestamptz NOT NULL DEFAULT now(),
	room   int NOT NULL,
	round  bigint NOT NULL,
	player text NOT NULL,
	color  text NOT NULL,
	stake  bigint NOT NULL,
	payout bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS bet_records_at ON colorgame.bet_records (at);
CREATE TABLE IF NOT EXISTS colorgame.house (
	account text PRIMARY KEY,
	balance bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO colorgame.house VALUES ('main', 0) ON CONFLICT DO NOTHING;
`

// Migrate creates what the game needs, if it is not there. Several processes may
// do it at once.
func Migrate(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connecting to the game's database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("creating the game's tables: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // a no-op after the commit
	if _, err := tx.Exec(ctx, schema); err != nil {
		return fmt.Errorf("creating the game's tables: %w", err)
	}
	return tx.Commit(ctx)
}
