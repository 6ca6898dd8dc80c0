package ops

import (
	"context"
	"errors"
	"fmt"
)

// ErrorKind is what sort of trouble an error means. The wire's status codes and
// the CLI's exit codes are made from it at the edge, once.
type ErrorKind string

// The kinds of error.
const (
	Internal    ErrorKind = "internal"    // ours; the default
	NotFound    ErrorKind = "not_found"   // no such thing
	Invalid     ErrorKind = "invalid"     // the request cannot be right
	Conflict    ErrorKind = "conflict"    // right, but not in this state
	Unavailable ErrorKind = "unavailable" // the other side is away; try again
	Exhausted   ErrorKind = "exhausted"   // a limit is reached; try later
	Denied      ErrorKind = "denied"      // the caller may not
	Corrupt     ErrorKind = "corrupt"     // the data is damaged
	Cancelled   ErrorKind = "cancelled"   // the caller gave up
)

// Error carries a kind and a message that its user may read, which ends with
// what to do next where there is something to do.
type Error struct {
	Kind    ErrorKind
	Message string
	cause   error
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, if any.
func (e *Error) Unwrap() error { return e.cause }

// Errorf makes an error of that kind. %w keeps the cause.
func Errorf(kind ErrorKind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), cause: err}
}

// KindOf returns the kind of the outermost Error in err's chain, Cancelled or
// Unavailable for context errors, and Internal for everything else.
func KindOf(err error) ErrorKind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled):
		return Cancelled
	case errors.Is(err, context.DeadlineExceeded):
		return Unavailable
	}
	return Internal
}
