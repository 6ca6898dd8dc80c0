package audit

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/ops"
)

// Config is what a Log needs.
type Config struct {
	Store Store
	// Logger tells the operator of every change with the number and hash of its
	// row: a copy of the chain's end that lies wherever the log goes. Nil = silent.
	Logger *slog.Logger
	// Room is asked when the disk is full and what happened to an action that was
	// begun has to be written down, or one that frees space is to begin: whether it
	// could give something up, so that another try is worth it. Nil = there is
	// nothing.
	Room func() bool
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Log is a record. It is a Recorder.
type Log struct {
	store  Store
	log    *slog.Logger
	now    func() time.Time
	room   func() bool
	secret []byte
	topic  changes.Topic[ID]

	mu      sync.Mutex // guards what follows, and is never held while the store writes
	queue   []*pending
	leading bool // somebody appends, and will see to the queue
	broken  error

	head Head // belongs to the one who leads

	keysMu sync.Mutex // guards keys
	keys   map[keyOf]*action
}

// keyOf is an idempotency key: actors do not share theirs, for the answer to a
// repetition is the first one's.
type keyOf struct{ actor, key string }

// pending is a row that waits to be appended with others: one sync for all.
type pending struct {
	body body
	must bool // Config.Room may be asked for it
	row  Row
	err  error
	wake chan bool // true = lead the next batch, false = it is done
}

// maxBatch bounds how long the last one of a batch waits for the first.
const maxBatch = 64

// Open opens the record of a store. Actions without an outcome, which the last
// centre left behind, get the outcome Unknown; an end that is not where the
// second place says is put on record.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	l := &Log{store: cfg.Store, log: cfg.Logger, now: cfg.Now, room: cfg.Room, keys: map[keyOf]*action{}}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.now == nil {
		l.now = time.Now
	}
	var err error
	if l.secret, err = l.store.Secret(ctx); err != nil {
		return nil, err
	}
	damage, err := l.findEnd(ctx)
	if err != nil {
		return nil, err
	}
	if damage != "" {
		l.log.ErrorContext(ctx, "the audit record is damaged", "damage", damage)
		if _, err := l.append(ctx, body{Kind: rowBreach, Text: damage}); err != nil {
			return nil, err
		}
	}
	left, err := l.store.Unended(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range left {
		out := Outcome{Result: Unknown, Message: "the centre ended before the outcome was recorded: the action may have run, in part or whole"}
		if _, err := l.append(ctx, body{Kind: rowOutcome, ID: id, Out: &out}); err != nil {
			return nil, err
		}
		l.log.WarnContext(ctx, "an action's outcome is unknown: the centre ended before it was recorded", "audit", id)
	}
	return l, nil
}

// findEnd reads where the record ends and says what is wrong with that end.
func (l *Log) findEnd(ctx context.Context) (damage string, err error) {
	head, err := l.store.Head(ctx)
	if err != nil {
		return "", err
	}
	anchor, err := l.store.Anchor(ctx)
	if err != nil {
		return "", err
	}
	l.head = head
	if head.Rows == 0 {
		l.head = originHead()
	}
	if _, err := chain(l.head.Hash, nil); err != nil { // go on from something that can be gone on from
		sum := sha256.Sum256([]byte(l.head.Hash))
		l.head.Hash = hex.EncodeToString(sum[:])
		damage = "the last row's hash was edited"
	}
	if anchor == (Head{}) && head.Rows == 0 {
		return damage, nil // new
	}
	// A centre that was killed between the two places left the rows of its last
	// batch behind the anchor. They are whole, or they are not ours.
	var report Report
	c := checker{head: anchor, report: &report}
	if anchor.Rows > head.Rows || anchor.Rows == head.Rows && anchor.Hash != head.Hash || anchor == (Head{}) || head.Rows-anchor.Rows > maxBatch {
		c.head = head
		if head.Rows == 0 {
			c.head = originHead()
		}
		c.against(anchor)
	} else if err := l.store.Rows(ctx, anchor.Rows, func(r Row) error { c.row(r); return nil }); err != nil {
		return "", err
	}
	for _, p := range report.Problems {
		damage = strings.TrimPrefix(damage+"; "+p.Text, "; ")
	}
	return damage, nil
}

// Begin implements Recorder.
func (l *Log) Begin(ctx context.Context, in Intent) (Action, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	a := &action{log: l, id: ID(strings.ToLower(ulid.Make().String())), in: in, ended: make(chan struct{}), print: l.fingerprint(in)}
	if in.Key != "" {
		first, err := l.claim(ctx, a)
		if first != nil || err != nil {
			return first, err
		}
	}
	kept := in.masked()
	row, err := l.append(ctx, body{Kind: rowIntent, ID: a.id, In: &kept, Print: a.print})
	if err != nil {
		l.release(a)
		return nil, unrecorded(in, err)
	}
	a.seq = row.Seq
	if in.Mutating {
		l.log.InfoContext(ctx, "audit", "action", in.Action, "subject", in.Subject, "project", in.Project, "service", in.Service,
			"instances", len(in.Instances), "actor", in.Actor, "audit", a.id, "row", row.Seq, "hash", row.Hash)
	}
	l.topic.Publish(a.id)
	return a, nil
}

// unrecorded says that nothing was done, and why.
func unrecorded(in Intent, err error) error {
	const what = "nothing was done, because %s could not be recorded: %w"
	if kind := ops.KindOf(err); kind != ops.Internal {
		return ops.Errorf(kind, what, in.Action, err)
	}
	return ops.Errorf(ops.Unavailable, what, in.Action, err)
}

// Repeated implements Recorder.
func (l *Log) Repeated(ctx context.Context, in Intent) (Action, error) {
	if in.Key == "" {
		return nil, nil
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	mark := l.fingerprint(in)
	l.keysMu.Lock()
	running := l.keys[keyOf{in.Actor, in.Key}]
	l.keysMu.Unlock()
	return l.first(ctx, running, in, mark)
}

// claim takes a's key, or returns the action that has it already.
func (l *Log) claim(ctx context.Context, a *action) (Action, error) {
	k := keyOf{a.in.Actor, a.in.Key}
	for {
		l.keysMu.Lock()
		running := l.keys[k]
		if running == nil {
			l.keys[k] = a
		}
		l.keysMu.Unlock()
		first, err := l.first(ctx, running, a.in, a.print)
		if running == nil {
			if first != nil || err != nil {
				l.release(a)
			}
			return first, err
		}
		if first != nil || err != nil {
			return first, err
		}
		// The one that had the key could not be recorded: it is free again.
	}
}

// release gives a's key back when it has ended: the store knows it now.
func (l *Log) release(a *action) {
	l.keysMu.Lock()
	if k := (keyOf{a.in.Actor, a.in.Key}); l.keys[k] == a {
		delete(l.keys, k)
	}
	l.keysMu.Unlock()
	a.endOnce.Do(func() { close(a.ended) })
}

// first returns the action that used in's key, once it has ended; nil if none
// did.
func (l *Log) first(ctx context.Context, running *action, in Intent, mark string) (Action, error) {
	if running != nil {
		if running.print != mark {
			return nil, otherRequest(in)
		}
		select {
		case <-running.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	id, err := l.store.ByKey(ctx, in.Actor, in.Key)
	if err != nil || id == "" {
		return nil, err
	}
	e, recorded, err := l.entry(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case recorded != mark:
		return nil, otherRequest(in)
	case e.Outcome.Result == Running:
		return nil, ops.Errorf(ops.Conflict, "the action with the key %q has ended and its outcome could not be recorded: look what it did (ops audit list --id %s) before you repeat it under another key", in.Key, id)
	case e.Outcome.Result == Unknown:
		return nil, ops.Errorf(ops.Conflict, "the action with the key %q may have run: the centre ended before its outcome was recorded. Look what it did (ops audit list --id %s) before you repeat it under another key", in.Key, id)
	}
	return &action{log: l, id: id, in: in, first: &e.Outcome, steps: e.Steps, seq: e.Seq}, nil
}

func otherRequest(in Intent) error {
	return ops.Errorf(ops.Conflict, "the key %q was used for another request: give every new request a new key", in.Key)
}

// fingerprint tells requests apart without telling what is in them: the record
// is readable, and so must not be a way to try passwords.
func (l *Log) fingerprint(in Intent) string {
	h := hmac.New(sha256.New, l.secret)
	for _, part := range []string{in.Action, in.Subject, string(in.Project), string(in.Service), fmt.Sprint(in.DryRun), string(in.Request), in.Private} {
		fmt.Fprintf(h, "%d:%s", len(part), part) //nolint:errcheck // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (in Intent) check() error {
	switch {
	case in.Actor == "" || in.Action == "":
		return errors.New("an intent has to say who does what")
	case len(in.Key) > MaxKeyBytes:
		return ops.Errorf(ops.Invalid, "the key is %d bytes long: keep it within %d", len(in.Key), MaxKeyBytes)
	case len(in.Reason) > MaxReasonBytes:
		return ops.Errorf(ops.Invalid, "the reason is %d bytes long: keep it within %d", len(in.Reason), MaxReasonBytes)
	}
	return nil
}

// masked is the intent as it is kept.
func (in Intent) masked() Intent {
	in.Reason = MaskText(clean(in.Reason))
	in.Subject = clean(in.Subject)
	if in.Request != nil {
		in.Request = bounded(MaskJSON(in.Request), MaxRequestBytes)
	}
	return in
}

// bounded keeps the beginning of JSON that is too long, as a text.
func bounded(raw []byte, most int) json.RawMessage {
	if len(raw) <= most {
		return raw
	}
	out, err := encode(struct {
		Cut   bool   `json:"cut"`
		Bytes int    `json:"bytes"`
		Start string `json:"start"`
	}{true, len(raw), clean(string(raw[:most/4]))})
	if err != nil {
		return nil
	}
	return out
}

// clean keeps texts storable: valid UTF-8 without NUL.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// cut keeps a text short.
func cut(s string, most int) string {
	s = clean(s)
	if len(s) <= most {
		return s
	}
	return clean(s[:most]) + fmt.Sprintf("… (%d bytes more)", len(s)-most)
}

// append links a row to the last one and returns when it is durable.
func (l *Log) append(ctx context.Context, b body) (Row, error) {
	p := &pending{body: b, must: b.Kind != rowIntent || b.In.FreesSpace, wake: make(chan bool, 1)}
	p.body.At = stamp{l.now()}
	l.mu.Lock()
	l.queue = append(l.queue, p)
	leads := !l.leading
	l.leading = true
	l.mu.Unlock()
	if !leads {
		leads = <-p.wake
	}
	if leads {
		// Once begun it is not given up: who leaves must not break a batch.
		l.lead(context.WithoutCancel(ctx))
	}
	return p.row, p.err
}

// lead appends what waits and hands over to who came meanwhile.
func (l *Log) lead(ctx context.Context) {
	l.mu.Lock()
	batch := l.queue[:min(len(l.queue), maxBatch)]
	l.queue = l.queue[len(batch):]
	broken := l.broken
	l.mu.Unlock()
	err := broken
	if err == nil {
		err = l.write(ctx, batch)
	}
	l.mu.Lock()
	if err != nil && ops.KindOf(err) != ops.Exhausted && l.broken == nil {
		// Nobody knows what a failed write left behind.
		l.broken = fmt.Errorf("the record cannot be written any more, start the centre again: %w", err)
		l.log.ErrorContext(ctx, "the audit record cannot be written any more; nothing that changes an instance will run", "err", err)
	}
	if len(l.queue) > 0 {
		l.queue[0].wake <- true
	} else {
		l.leading = false
	}
	l.mu.Unlock()
	for _, p := range batch {
		p.err = err
	}
	for _, p := range batch[1:] { // the first one leads
		p.wake <- false
	}
}

func (l *Log) write(ctx context.Context, batch []*pending) error {
	head := l.head
	rows := make([]Row, len(batch))
	for i, p := range batch {
		row, err := link(head, p.body)
		if err != nil {
			return err
		}
		rows[i], p.row = row, row
		head = Head{Rows: row.Seq, Hash: row.Hash}
	}
	err := l.store.Append(ctx, rows)
	must := slices.ContainsFunc(batch, func(p *pending) bool { return p.must })
	if must && ops.KindOf(err) == ops.Exhausted && l.room != nil && l.room() {
		err = l.store.Append(ctx, rows)
	}
	if err != nil {
		return err
	}
	l.head = head
	return nil
}

// Subscribe tells which actions began, went on or ended.
func (l *Log) Subscribe() *changes.Subscription[ID] { return l.topic.Subscribe() }
