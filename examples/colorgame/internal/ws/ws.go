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
	// holds counts the hub's own hold and one for each broadcast that is sending to
	// the client; at zero nobody can send any more and sendCh is closed.
	holds atomic.Int32
}

// newClient returns a client that the hub holds.
func newClient(conn Conn) *Client {
	c := &Client{conn: conn, sendCh: make(chan []byte, sendBuffer)}
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
		broken = c.conn.Write(ctx, msg) != nil
	}
}

// Hub passes announcements to all clients.
type Hub struct {
	mu      sync.RWMutex // guards clients and closed; never held while sending
	clients map[*Client]struct{}
	closed  bool

	broadcasts sync.WaitGroup
	pending    atomic.Int64
	sent       atomic.Int64
	dropped    atomic.Int64
	latency    chassis.Latency
}

// NewHub makes a hub without clients.
func NewHub() *Hub { return &Hub{clients: map[*Client]struct{}{}} }

// Serve has the client on the list until ctx ends, and returns when its writer
// has ended, which may be a little later: broadcasts that are sending to the
// client are let through.
func (h *Hub) Serve(ctx context.Context, conn Conn) {
	c := newClient(conn)
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
	}
	h.latency.Into(f, "broadcast")
	return f
}
