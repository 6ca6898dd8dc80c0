package desk

import (
	"context"
	"encoding/json"
	"io"
	"sync"

	"github.com/opscenter/opscenter/internal/ops"
)

// conversation is what somebody still has to say in an open call.
type conversation struct {
	actor string

	mu       sync.Mutex
	waiting  []json.RawMessage
	finished bool
	changed  chan struct{} // closed and replaced at every change
}

// maxWaiting bounds what a server does not take.
const maxWaiting = 256

func newConversation(actor string) *conversation {
	return &conversation{actor: actor, changed: make(chan struct{})}
}

func (c *conversation) next(ctx context.Context) ([]byte, error) {
	for {
		c.mu.Lock()
		if len(c.waiting) > 0 {
			m := c.waiting[0]
			c.waiting = c.waiting[1:]
			c.mu.Unlock()
			return m, nil
		}
		finished, changed := c.finished, c.changed
		c.mu.Unlock()
		if finished {
			return nil, io.EOF
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *conversation) change(fn func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finished {
		return ops.Errorf(ops.Conflict, "this call's sending side is finished: start another call")
	}
	if err := fn(); err != nil {
		return err
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}

// Send gives an open call one more message. NotFound if no such call of the
// actor is running, Conflict after Finish, Exhausted when the server takes none.
func (d *Desk) Send(actor string, id CallID, message json.RawMessage) error {
	c, err := d.talk(actor, id)
	if err != nil {
		return err
	}
	return c.change(func() error {
		if len(c.waiting) >= maxWaiting {
			return ops.Errorf(ops.Exhausted, "%d messages are waiting for the server to take them: wait until it does", maxWaiting)
		}
		c.waiting = append(c.waiting, message)
		return nil
	})
}

// Finish says that no more messages come; the server may go on answering.
func (d *Desk) Finish(actor string, id CallID) error {
	c, err := d.talk(actor, id)
	if err != nil {
		return err
	}
	return c.change(func() error { c.finished = true; return nil })
}

func (d *Desk) talk(actor string, id CallID) (*conversation, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.open[id]
	if c == nil || c.actor != actor {
		return nil, ops.Errorf(ops.NotFound, "no open call %s of yours is running: it may have ended", id)
	}
	return c, nil
}
