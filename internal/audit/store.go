package audit

import "context"

// Store keeps the rows of a record, and in a second place where they end. It
// knows nothing of hashes but to keep them. It has one Log, whose calls to Append
// come one after the other.
type Store interface {
	// Append adds rows behind the last one, all or none, and notes in the second
	// place that they are the end. When it returns they survive a power cut.
	// Exhausted when the disk is full: nothing was added. After any other error
	// nobody knows what is there, and the store is not written any more.
	Append(ctx context.Context, rows []Row) error
	// Head is the last row; a zero Head when there is none.
	Head(ctx context.Context) (Head, error)
	// Anchor is what the second place says; a zero Head when it says nothing.
	Anchor(ctx context.Context) (Head, error)
	// Rows calls fn for every row after that number, in order of the numbers,
	// until it returns an error, which Rows returns.
	Rows(ctx context.Context, after int64, fn func(Row) error) error
	// Search returns every row of the actions that match, newest action first and
	// each one's rows in order. f.Limit is set.
	Search(ctx context.Context, f Filter) ([]Row, error)
	// ByKey returns the action whose intent has that actor and key; empty if none.
	ByKey(ctx context.Context, actor, key string) (ID, error)
	// Unended returns the actions without an outcome, oldest first.
	Unended(ctx context.Context) ([]ID, error)
	// Secret is made of 32 random bytes when the store is, and never changes.
	Secret(ctx context.Context) ([]byte, error)
}
