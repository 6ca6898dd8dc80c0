// Package redis is a small client of the Redis protocol.
package redis

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
)

// Client keeps connections that nobody uses right now.
type Client struct {
	addr string

	mu   sync.Mutex
	idle []*conn
}

type conn struct {
	net.Conn
	r *bufio.Reader
}

// New makes a client of the server at addr.
func New(addr string) *Client { return &Client{addr: addr} }

// Get reads a key.
func (c *Client) Get(key string) (string, error) { return c.Do("GET", key) }

// Do runs a command on a connection of its own.
func (c *Client) Do(args ...string) (string, error) {
	cn, err := c.take()
	if err != nil {
		return "", err
	}
	line, err := cn.roundTrip(args) // want: downstream-wait
	if err != nil {
		return "", errors.Join(err, cn.Close())
	}
	c.put(cn)
	return line, nil
}

func (c *Client) take() (*conn, error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		cn := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return cn, nil
	}
	c.mu.Unlock()
	raw, err := net.Dial("tcp", c.addr)
	if err != nil {
		return nil, err
	}
	return &conn{raw, bufio.NewReader(raw)}, nil
}

func (c *Client) put(cn *conn) {
	c.mu.Lock()
	c.idle = append(c.idle, cn)
	c.mu.Unlock()
}

func (cn *conn) roundTrip(args []string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := cn.Write([]byte(b.String())); err != nil {
		return "", err
	}
	line, err := cn.r.ReadString('\n') // want: downstream-wait
	return strings.TrimSpace(line), err
}
