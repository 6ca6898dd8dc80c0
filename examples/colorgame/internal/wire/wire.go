// Package wire is what the services say to each other, and the small JSON client
// they say it with.
package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Credentials are what a player logs in with.
type Credentials struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

// Login is the answer to credentials.
type Login struct {
	Token string `json:"token"`
}

// Profile is what a player sees of themselves.
type Profile struct {
	Name    string   `json:"name"`
	Level   int      `json:"level"`
	Friends []Friend `json:"friends"`
	Badges  []string `json:"badges"`
}

// Friend is a line of a player's friend list.
type Friend struct {
	Name  string    `json:"name"`
	Level int       `json:"level"`
	Since time.Time `json:"since"`
}

// Bet is one bet on a colour.
type Bet struct {
	Player string `json:"player"`
	Room   int    `json:"room"`
	Color  string `json:"color"`
	Stake  int64  `json:"stake"` // credits
}

// Receipt confirms a bet.
type Receipt struct {
	Round   int64 `json:"round"`
	Balance int64 `json:"balance"`
}

// Record is a settled bet, to be kept.
type Record struct {
	Bet
	Round  int64 `json:"round"`
	Payout int64 `json:"payout"`
}

// Board is what the lobby shows of a room.
type Board struct {
	Room    int              `json:"room"`
	Round   int64            `json:"round"`
	Sent    time.Time        `json:"sent"`
	Stakes  map[string]int64 `json:"stakes"`
	History []string         `json:"history"` // winning colours, oldest first
	Leaders []Leader         `json:"leaders"`
}

// Leader is a line of a room's leader board.
type Leader struct {
	Name string `json:"name"`
	Won  int64  `json:"won"`
}

// Colors are what can be bet on.
func Colors() []string { return []string{"red", "green", "blue", "gold"} }

// StatusError is an answer that is not a success.
type StatusError struct {
	Code    int
	Message string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Code, http.StatusText(e.Code), e.Message)
}

// IsStatus reports whether err is an answer with that status code.
func IsStatus(err error, code int) bool {
	var s *StatusError
	return errors.As(err, &s) && s.Code == code
}

// Client calls another service. The zero value is not usable: see NewClient.
type Client struct {
	base string
	http *http.Client
}

// NewClient makes a client of the service at that base URL that keeps up to that
// many idle connections, for a short while: a burst leaves nothing behind.
func NewClient(base string, timeout time.Duration, idle int) *Client {
	return &Client{base: base, http: &http.Client{
		Timeout:   timeout,
		Transport: &http.Transport{MaxIdleConnsPerHost: idle, IdleConnTimeout: 5 * time.Second},
	}}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Post sends in as JSON and reads the answer into out, if it is not nil.
func (c *Client) Post(ctx context.Context, path, token string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding %T: %w", in, err)
	}
	return c.do(ctx, http.MethodPost, path, token, bytes.NewReader(body), out)
}

// Get reads the answer into out.
func (c *Client) Get(ctx context.Context, path, token string, out any) error {
	return c.do(ctx, http.MethodGet, path, token, nil, out)
}

func (c *Client) do(ctx context.Context, method, path, token string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("%s %s: reading the answer: %w", method, path, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %w", method, path, &StatusError{Code: resp.StatusCode, Message: string(bytes.TrimSpace(answer))})
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: decoding the answer: %w", method, path, err)
	}
	return nil
}

const maxBody = 1 << 20

// Read decodes a request's body, or answers 400 and returns false.
func Read[T any](w http.ResponseWriter, r *http.Request) (in T, ok bool) {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil {
		http.Error(w, "body is not the JSON this expects: "+err.Error(), http.StatusBadRequest)
		return in, false
	}
	return in, true
}

// Write answers with v as JSON.
func Write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// The status line is out: if the client has gone there is nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}
