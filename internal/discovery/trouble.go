package discovery

import (
	"log/slog"
	"sync"
	"time"
)

// Trouble is what keeps a source from saying what there is now. It is logged when
// it begins, when it becomes another and when it ends, never once an attempt.
// Sources embed it; the Manager asks it how old a list is.
type Trouble struct {
	log *slog.Logger

	mu      sync.Mutex // guards all below
	problem string
	since   time.Time
}

// NewTrouble returns the trouble of a source of that name, which has none yet.
// nil = silent.
func NewTrouble(log *slog.Logger, source string) *Trouble {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Trouble{log: log.With("source", source)}
}

// Problem says what keeps the list from being renewed; empty = nothing does.
func (t *Trouble) Problem() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.problem
}

// ProblemSince is when the list stopped being renewed; zero = it is current.
func (t *Trouble) ProblemSince() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.since
}

// Set says what the problem is now; empty = there is none.
func (t *Trouble) Set(problem string) {
	t.mu.Lock()
	before := t.problem
	t.problem = problem
	switch {
	case problem == "":
		t.since = time.Time{}
	case before == "":
		t.since = time.Now()
	}
	t.mu.Unlock()
	switch problem {
	case before:
	case "":
		t.log.Info("the source answers again")
	default:
		t.log.Warn("the source does not say what there is: its last list stays", "problem", problem)
	}
}
