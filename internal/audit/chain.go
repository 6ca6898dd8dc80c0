package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Row is one line of the record. Body is the row as JSON and holds its own
// number; Hash is the lower-case hex SHA-256 of the row before's hash, as bytes,
// followed by Body. What comes before the first row is the hash of origin.
type Row struct {
	Seq  int64
	Body []byte
	Hash string
}

const origin = "opscenter.audit/v1"

// The kinds of row.
const (
	rowIntent  = "intent"
	rowStep    = "step"
	rowOutcome = "outcome"
	rowBreach  = "breach" // the record was found damaged
)

// body is what a row says.
type body struct {
	Seq   int64    `json:"seq"`
	At    stamp    `json:"at"`
	Kind  string   `json:"kind"`
	ID    ID       `json:"id,omitempty"`
	In    *Intent  `json:"intent,omitempty"`
	Print string   `json:"fingerprint,omitempty"` // of the intent before it was masked
	Step  *Step    `json:"step,omitempty"`
	Out   *Outcome `json:"outcome,omitempty"`
	Text  string   `json:"text,omitempty"`
}

// stamp is a time whose text sorts as the time does.
type stamp struct{ time.Time }

// StampLayout is how times stand in rows: UTC, microseconds, always as long.
const StampLayout = "2006-01-02T15:04:05.000000Z"

// MarshalJSON implements json.Marshaler.
func (s stamp) MarshalJSON() ([]byte, error) {
	return []byte(`"` + s.UTC().Format(StampLayout) + `"`), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *stamp) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	var err error
	s.Time, err = time.Parse(StampLayout, text)
	return err
}

// encode writes without the escapes for HTML, so that a search finds what was typed.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// originHead is where an empty record ends.
func originHead() Head {
	sum := sha256.Sum256([]byte(origin))
	return Head{Hash: hex.EncodeToString(sum[:])}
}

// link makes the row that follows head.
func link(head Head, b body) (Row, error) {
	b.Seq = head.Rows + 1
	text, err := encode(b)
	if err != nil {
		return Row{}, err
	}
	hash, err := chain(head.Hash, text)
	return Row{Seq: b.Seq, Body: text, Hash: hash}, err
}

func chain(before string, body []byte) (string, error) {
	prev, err := hex.DecodeString(before)
	if err != nil || len(prev) != sha256.Size {
		return "", fmt.Errorf("%.80q is no hash of a row", before)
	}
	h := sha256.New()
	h.Write(prev)
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// checker reads rows in their order and notes what is not as it was written.
type checker struct {
	head   Head // the row before
	report *Report
}

func (c *checker) problem(seq int64, format string, args ...any) {
	if len(c.report.Problems) >= MaxProblems {
		c.report.More++
		return
	}
	c.report.Problems = append(c.report.Problems, Problem{Seq: seq, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) row(r Row) {
	switch missing := r.Seq - c.head.Rows - 1; {
	case missing == 1:
		c.problem(r.Seq-1, "row %d is missing", r.Seq-1)
	case missing > 1:
		c.problem(c.head.Rows+1, "rows %d to %d are missing", c.head.Rows+1, r.Seq-1)
	case missing < 0:
		c.problem(r.Seq, "row %d stands after row %d: rows were moved", r.Seq, c.head.Rows)
	default:
		if want, err := chain(c.head.Hash, r.Body); err != nil || want != r.Hash {
			c.problem(r.Seq, "row %d does not match its hash: it was edited, or the row before it was", r.Seq)
		}
	}
	var b body
	switch err := json.Unmarshal(r.Body, &b); {
	case err != nil:
		c.problem(r.Seq, "row %d cannot be read: %v", r.Seq, err)
	case b.Seq != r.Seq:
		c.problem(r.Seq, "row %d was written as row %d: rows were moved", r.Seq, b.Seq)
	case b.Kind == rowBreach:
		c.problem(r.Seq, "row %d says that the record was found damaged on %s: %s", r.Seq, b.At.Format(time.RFC3339), b.Text)
	}
	c.head = Head{Rows: max(r.Seq, c.head.Rows), Hash: r.Hash}
}

// against compares the end of the rows with what a second place says of it.
func (c *checker) against(anchor Head) {
	switch {
	case anchor.Rows == 0 && c.head.Rows == 0:
	case anchor.Rows > c.head.Rows:
		c.problem(0, "the record ends at row %d, and %d rows were there: the last ones were cut off", c.head.Rows, anchor.Rows)
	case anchor.Rows == c.head.Rows && anchor.Hash != c.head.Hash:
		c.problem(c.head.Rows, "row %d, the last one, is not the one that was written last: it was replaced", c.head.Rows)
	case anchor.Rows < c.head.Rows:
		c.problem(0, "the record has %d rows, and only %d were written by a centre", c.head.Rows, anchor.Rows)
	}
}

// Verify reads every row and reports what is not as it was written. An error
// means that it could not be read, not that it is damaged.
//
// What it cannot see: somebody who may write both the rows and the anchor can
// write another record that is whole in itself. A Head that was noted elsewhere
// (expect; nil = none) shows that too.
func (l *Log) Verify(ctx context.Context, expect *Head) (Report, error) {
	l.mu.Lock()
	head, err := l.store.Head(ctx)
	if err != nil {
		l.mu.Unlock()
		return Report{}, err
	}
	anchor, err := l.store.Anchor(ctx)
	l.mu.Unlock() // what is written from here on comes after both
	if err != nil {
		return Report{}, err
	}
	report := Report{Anchor: anchor}
	c := checker{head: originHead(), report: &report}
	var met bool
	err = l.store.Rows(ctx, 0, func(r Row) error {
		if r.Seq > head.Rows {
			return errEnough
		}
		c.row(r)
		met = met || expect != nil && r.Seq == expect.Rows && r.Hash == expect.Hash
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return Report{}, err
	}
	c.against(anchor)
	if expect != nil && !met {
		c.problem(expect.Rows, "row %d is not the one whose hash you noted", expect.Rows)
	}
	report.Head = c.head
	return report, nil
}

var errEnough = errors.New("enough")

// exported is a line of an export. Row holds the body byte for byte.
type exported struct {
	Hash string          `json:"hash"`
	Row  json.RawMessage `json:"row"`
}

// Export writes every row after the one of that number as a line of JSON:
// {"hash":"…","row":{…}}. VerifyExport reads it again.
func (l *Log) Export(ctx context.Context, after int64, w io.Writer) error {
	out := bufio.NewWriter(w)
	if err := l.store.Rows(ctx, after, func(r Row) error {
		line, err := encode(exported{Hash: r.Hash, Row: r.Body})
		if err != nil {
			return ops.Errorf(ops.Corrupt, "row %d of the record is not JSON: run ops audit verify", r.Seq)
		}
		_, err = out.Write(append(line, '\n'))
		return err
	}); err != nil {
		return err
	}
	return out.Flush()
}

// maxLine bounds a line of an export: a body's parts are bounded, and JSON may
// write each byte of them as six.
const maxLine = 1 << 20

// VerifyExport checks the lines of an export, which begins with row 1. The
// Report's Anchor is empty: a file has no second place, so that rows cut off its
// end show only against an expect.
func VerifyExport(r io.Reader, expect *Head) (Report, error) {
	var report Report
	c := checker{head: originHead(), report: &report}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	met := false
	for n := 1; lines.Scan(); n++ {
		var line exported
		var at struct {
			Seq int64 `json:"seq"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || json.Unmarshal(line.Row, &at) != nil || at.Seq < 1 {
			return Report{}, ops.Errorf(ops.Invalid, "line %d is not of an audit export: give a file that ops audit export wrote", n)
		}
		c.row(Row{Seq: at.Seq, Body: line.Row, Hash: line.Hash})
		met = met || expect != nil && at.Seq == expect.Rows && line.Hash == expect.Hash
	}
	if err := lines.Err(); err != nil {
		return Report{}, ops.Errorf(ops.Invalid, "this is not an audit export: %w", err)
	}
	if expect != nil && !met {
		c.problem(expect.Rows, "row %d is not the one whose hash you noted", expect.Rows)
	}
	report.Head = c.head
	return report, nil
}
