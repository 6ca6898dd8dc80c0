package rules

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Entry is one thing that happened to a rule.
type Entry struct {
	// Number counts from 1 in this centre.
	Number   int64             `json:"number"`
	At       time.Time         `json:"at"`
	Project  ops.ProjectName   `json:"project"`
	Service  ops.ServiceName   `json:"service"`
	Instance ops.InstanceID    `json:"instance"`
	Rule     string            `json:"rule"`
	Kind     ops.RuleEventKind `json:"kind"`
	Reason   string            `json:"reason,omitempty"`
	Value    float64           `json:"value,omitempty"`
	Capture  ops.CaptureID     `json:"capture,omitempty"`
	// Verdict is what the diagnosis of the capture says in a line.
	Verdict  ops.Headline `json:"verdict,omitzero"`
	Diagnose bool         `json:"diagnosed,omitempty"`
	// Notify says that the rule asks for somebody to be told.
	Notify bool `json:"notify,omitempty"`
	// Event is the instance's own number of it; 0 = the centre's doing.
	Event int64 `json:"event,omitempty"`
	// Reasons are what Reason says, for who words it in another language.
	Reasons []ops.RuleReason `json:"reasons,omitempty"`
}

// Filter selects entries; zero fields match all.
type Filter struct {
	Rule     string
	Instance ops.InstanceID
	Capture  ops.CaptureID
	Limit    int // 0 = 200
}

// What is kept of the history: in memory, and before the file is written anew.
const (
	maxEntries = 5000
	maxLines   = 4 * maxEntries
)

// history is the entries, newest last, and their file.
type history struct {
	mu      sync.Mutex // guards all below; the file is appended to under it, in order
	entries []Entry
	last    int64
	heard   map[ops.InstanceID]int64 // the last event of each instance
	path    string
	file    *os.File
	lines   int
}

// openHistory reads what there is. A line that cannot be read, such as the last
// of a centre that was killed, is left out.
func openHistory(path string) (*history, error) {
	h := &history{heard: map[ops.InstanceID]int64{}, path: path}
	if path == "" {
		return h, nil
	}
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, ops.Errorf(ops.Unavailable, "the history of rules: %w", err)
	}
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var e Entry
		if json.Unmarshal(s.Bytes(), &e) == nil && e.Number > h.last {
			h.keep(e)
		}
	}
	if err := h.rewrite(); err != nil {
		return nil, ops.Errorf(ops.Unavailable, "the history of rules: %w", err)
	}
	return h, nil
}

// keep adds to what is in memory; the caller holds mu, or is alone.
func (h *history) keep(e Entry) {
	h.last = e.Number
	if h.entries = append(h.entries, e); len(h.entries) > maxEntries {
		h.entries = slices.Delete(h.entries, 0, len(h.entries)-maxEntries)
	}
	if e.Event > h.heard[e.Instance] {
		h.heard[e.Instance] = e.Event
	}
}

// rewrite makes the file what is in memory.
func (h *history) rewrite() error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, e := range h.entries {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	if h.file != nil {
		_ = h.file.Close()
		h.file = nil
	}
	tmp := h.path + ".new"
	if err := os.WriteFile(tmp, b.Bytes(), 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, h.path); err != nil {
		return err
	}
	h.lines = len(h.entries)
	var err error
	h.file, err = os.OpenFile(h.path, os.O_APPEND|os.O_WRONLY, 0o600)
	return err
}

// add numbers an entry and keeps it. It is kept in memory whatever the file says.
func (h *history) add(e Entry) (int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.Number = h.last + 1
	h.keep(e)
	if h.path == "" {
		return e.Number, nil
	}
	if h.file == nil || h.lines >= maxLines {
		return e.Number, h.rewrite()
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = h.file.Write(append(line, '\n'))
		h.lines++
	}
	return e.Number, err
}

func (h *history) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.file == nil {
		return nil
	}
	err := h.file.Close()
	h.file, h.path = nil, ""
	return err
}

// after is the last event that was heard of an instance.
func (h *history) after(id ops.InstanceID) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard[id]
}

// fired is when a rule fired on any of the instances, since a time.
func (h *history) fired(ids []ops.InstanceID, rule string, since time.Time) (out []time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.entries {
		if e.Kind == ops.RuleFired && e.Rule == rule && e.At.After(since) && slices.Contains(ids, e.Instance) {
			out = append(out, e.At)
		}
	}
	return out
}

func (h *history) entry(number int64) (Entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.entries) - 1; i >= 0; i-- {
		if h.entries[i].Number == number {
			return h.entries[i], nil
		}
	}
	return Entry{}, ops.Errorf(ops.NotFound, "the history of rules has no entry %d any more", number)
}

func (h *history) search(f Filter) (out []Entry) {
	if f.Limit <= 0 {
		f.Limit = 200
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.entries) - 1; i >= 0 && len(out) < f.Limit; i-- {
		e := h.entries[i]
		if (f.Rule == "" || f.Rule == e.Rule) && (f.Instance == "" || f.Instance == e.Instance) && (f.Capture == "" || f.Capture == e.Capture) {
			out = append(out, e)
		}
	}
	return out
}
