package game

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Books know what has been kept of a room's bets.
type Books interface {
	Staked(ctx context.Context, room int) (int64, error)
}

// auditIfDue audits the room of a bet when the last audit of any room was long
// enough ago. Whoever bets in that room meanwhile waits.
func (s *Service) auditIfDue(ctx context.Context, r *Room, now time.Time) {
	if s.cfg.Books == nil || !s.cfg.Audited() {
		return
	}
	last := s.lastAudit.Load()
	if now.UnixNano()-last < int64(s.cfg.AuditEvery) || !s.lastAudit.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	// The bet is good without it: what fails is tried again when it is due.
	if err := r.audit(ctx, s.cfg.Books); err != nil {
		s.auditErrors.Add(1)
		return
	}
	s.audited.Add(1)
}

// audit notes by how much the books and the running round differ. The room is
// locked meanwhile, so that no bet comes in between the two.
func (r *Room) audit(ctx context.Context, books Books) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept, err := books.Staked(ctx, r.id)
	if err != nil {
		return fmt.Errorf("asking the books for room %d: %w", r.id, err)
	}
	for _, stake := range r.stakes {
		kept += stake
	}
	r.turnover = kept
	return nil
}

// SQLBooks are the records in Postgres.
type SQLBooks struct{ Pool *pgxpool.Pool }

// pg_sleep stands for the table's size: a real game's has millions of records,
// the demo's a few thousand.
const staked = `
	SELECT coalesce((SELECT sum(stake) FROM colorgame.bet_records WHERE room = $1), 0)::bigint
	FROM pg_sleep(0.06)`

// Staked implements Books.
func (b SQLBooks) Staked(ctx context.Context, room int) (sum int64, err error) {
	err = b.Pool.QueryRow(ctx, staked, room).Scan(&sum)
	return sum, err
}
