// Package ws is the lobby's fan-out: a hub that passes every announcement to
// every client's own channel, from which a writer feeds the client's socket. It
// knows nothing of players, sessions or what is announced.
package ws

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/examples/colorgame/internal/chassis"
)

// Conn is the socket of a client.
type Conn interface {
	// Write sends one message; it may block as long as the peer does not read.
	Write(ctx context.Context, msg []byte) error
}

// sendBuffer is how many messages a client may be behind before the hub feels it.
const sendBuffer = 16

// maxPending bounds the announcements under way, so that a stuck lobby costs
// memory only up to here.
const maxPending = 160

// ErrBusy says that too many announcements are under way.
var ErrBusy = errors.New("too many announcements are under way: this one is dropped")

// Client is one connected player.
type Client struct {
	conn   Conn
	sendCh chan []byte
	kick   context.CancelFunc // ends its Serve
	kicked atomic.Bool
	// writing is when the write that goes on now began, in Unix nanoseconds; 0 = none.
	writing atomic.Int64
	// holds counts the hub's own hold and one for each broadcast that is sending to
	// the client; at zero nobody can send any more and sendCh is closed.
	holds atomic.Int32
}

// newClient returns a client that the hub holds.
func newClient(conn Conn, kick context.CancelFunc) *Client {
	c := &Client{conn: conn, sendCh: make(chan []byte, sendBuffer), kick: kick}
	c.holds.Store(1)
	return c
}

func (c *Client) release() {
	if c.holds.Add(-1) == 0 {
		close(c.sendCh)
	}
}

// writeLoop feeds the socket until the channel is closed. After the socket's
// first error it only drains, so that no broadcast waits for a dead client.
func (c *Client) writeLoop(ctx context.Context) {
	var broken bool
	for msg := range c.sendCh {
		if broken {
			continue
		}
		c.writing.Store(time.Now().UnixNano())
		broken = c.conn.Write(ctx, msg) != nil
		c.writing.Store(0)
	}
}

// slowWrite is how long a message may take to be written to a client who keeps
// up; after a standstill everybody is behind for a moment.
const slowWrite = 20 * time.Millisecond

// slow reports whether the client is so many messages behind because of its own
// socket.
func (c *Client) slow(behind int) bool {
	began := c.writing.Load()
	return len(c.sendCh) >= behind && began != 0 && time.Since(time.Unix(0, began)) >= slowWrite
}

// Hub passes announcements to all clients.
type Hub struct {
	mu      sync.RWMutex // guards clients and closed; never held while sending
	clients map[*Client]struct{}
	closed  bool

	slow atomic.Pointer[limit] // nil = the hub waits for everybody

	broadcasts sync.WaitGroup
	kicked     atomic.Int64
	pending    atomic.Int64
	sent       atomic.Int64
	dropped    atomic.Int64
	latency    chassis.Latency
}

// NewHub makes a hub without clients.
func NewHub() *Hub { return &Hub{clients: map[*Client]struct{}{}} }

// limit is how far behind a client may be, for a time.
type limit struct {
	behind int
	until  time.Time
}

// tooSlow reports whether the hub does not wait for the client.
func (h *Hub) tooSlow(c *Client) bool {
	l := h.slow.Load()
	return l != nil && time.Now().Before(l.until) && c.slow(l.behind)
}

// end makes the client's Serve return; it is false when that was done before.
func (h *Hub) end(c *Client) bool {
	if c.kicked.Swap(true) {
		return false
	}
	h.kicked.Add(1)
	c.kick()
	return true
}

// Slow returns how many clients are at least so many messages behind.
func (h *Hub) Slow(behind int) (n int) {
	for _, c := range h.list() {
		if c.slow(behind) {
			n++
		}
	}
	return n
}

// KickSlow ends the clients who are at least so many messages behind, now and
// for the given time, and returns how many it ended now.
func (h *Hub) KickSlow(behind int, during time.Duration) (n int) {
	h.slow.Store(&limit{behind: behind, until: time.Now().Add(during)})
	for _, c := range h.list() {
		if c.slow(behind) && h.end(c) {
			n++
		}
	}
	return n
}

// Serve has the client on the list until ctx ends or it is kicked, and returns when its writer
// has ended, which may be a little later: broadcasts that are sending to the
// client are let through.
func (h *Hub) Serve(ctx context.Context, conn Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := newClient(conn, cancel)
	h.mu.Lock()
	h.clients[c] = struct{}{}
	h.mu.Unlock()

	defer context.AfterFunc(ctx, func() {
		h.mu.Lock()
		delete(h.clients, c)
		h.mu.Unlock()
		c.release()
	})()
	c.writeLoop(ctx)
}

// Announce starts a broadcast and returns at once, or ErrBusy.
func (h *Hub) Announce(msg []byte) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.closed {
		return ErrBusy
	}
	if h.pending.Add(1) > maxPending {
		h.pending.Add(-1)
		h.dropped.Add(1)
		return ErrBusy
	}
	h.broadcasts.Go(func() {
		defer h.pending.Add(-1)
		h.Broadcast(msg)
	})
	return nil
}

// Broadcast passes the message to everyone who is connected now.
func (h *Hub) Broadcast(msg []byte) {
	defer h.latency.Since(time.Now())
	for _, c := range h.list() {
		if !h.hold(c) {
			continue // gone meanwhile
		}
		if h.tooSlow(c) {
			h.end(c)
			c.release()
			continue
		}
		c.sendCh <- msg
		c.release()
	}
	h.sent.Add(1)
}

// list returns everyone who is connected.
func (h *Hub) list() []*Client {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Collect(maps.Keys(h.clients))
}

// hold keeps the client's channel open until it is released, and reports whether
// the client is still connected.
func (h *Hub) hold(c *Client) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	_, ok := h.clients[c]
	if ok {
		c.holds.Add(1)
	}
	return ok
}

// Close refuses further announcements and returns when every broadcast has
// ended, which takes clients that read or whose Serve has been told to end.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.broadcasts.Wait()
}

// Figures tells how the fan-out is doing.
func (h *Hub) Figures() chassis.Figures {
	h.mu.RLock()
	clients := len(h.clients)
	h.mu.RUnlock()
	f := chassis.Figures{
		"clients":               float64(clients),
		"broadcasts_pending":    float64(h.pending.Load()),
		"broadcasts_total":      float64(h.sent.Load()),
		"announcements_dropped": float64(h.dropped.Load()),
		"kicked_total":          float64(h.kicked.Load()),
	}
	h.latency.Into(f, "broadcast")
	return f
}
