package desk

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/console"
	"github.com/opscenter/opscenter/internal/ops"
)

const (
	// keptRequest bounds what is remembered of one call.
	keptRequest = 64 << 10
	maxName     = 120
	// gatherFor is how long a call may wait to be found again.
	gatherFor = 200 * time.Millisecond
	maxBatch  = 1000
	// writeWithin bounds how long the last records may take when the desk closes.
	writeWithin = 5 * time.Second
)

// entry is a call for the book; what it was is written out by who writes it down.
type entry struct {
	record ops.CallRecord
	call   Call
}

// remember puts a call into the book; it does not wait for the disk.
func (d *Desk) remember(r *run, who ops.ServiceKey, o audit.Outcome) {
	rec := ops.CallRecord{
		ID: string(r.id), At: r.began, Actor: r.call.Actor, Project: who.Project, Service: who.Service, Instances: r.call.Instances,
		Method: r.method.Name, Mutating: !r.method.ReadOnly,
		Duration: time.Since(r.began), Message: o.Message,
	}
	r.mu.Lock()
	code, _ := worst(r.ends)
	for _, e := range r.ends {
		rec.Sent, rec.Received = rec.Sent+e.sent, rec.Received+e.received
		if !e.failed {
			rec.Code = code.String()
		}
	}
	r.mu.Unlock()
	d.entries <- entry{rec, r.call}
}

// done is the record with its request.
func (e entry) done() ops.CallRecord {
	e.record.Request = keep(e.call, true)
	if len(e.record.Request) > keptRequest {
		e.record.Request = json.RawMessage(`{"too_large":true}`)
	}
	return e.record
}

// write is the owner of entries. A commit costs more than many calls, so that
// calls that follow each other closely share one.
func (d *Desk) write() {
	defer close(d.written)
	for first := range d.entries {
		batch := []ops.CallRecord{first.done()}
		gathered := time.NewTimer(gatherFor)
	more:
		for len(batch) < maxBatch {
			select {
			case next, open := <-d.entries:
				if !open {
					break more
				}
				batch = append(batch, next.done())
			case <-gathered.C:
				break more
			}
		}
		gathered.Stop()
		ctx, cancel := context.WithTimeout(context.Background(), writeWithin)
		if err := d.cfg.Book.AddCalls(ctx, batch); err != nil {
			d.cfg.Logger.Warn("calls of the console will not be found again", slog.Int("calls", len(batch)), slog.Any("error", err))
		}
		cancel()
	}
}

// Close waits for the calls that run, whose contexts somebody has ended, and for
// what is still to be written.
func (d *Desk) Close() error {
	d.mu.Lock()
	again := d.closed
	d.closed = true
	d.mu.Unlock()
	if again {
		return nil
	}
	d.adding.Wait()
	close(d.entries)
	<-d.written
	return nil
}

// History returns calls, newest first.
func (d *Desk) History(ctx context.Context, f ops.CallFilter) ([]ops.CallRecord, error) {
	return d.cfg.Book.Calls(ctx, f)
}

// Save keeps a request under a name.
func (d *Desk) Save(ctx context.Context, s ops.SavedCall, c Call) (ops.SavedCall, error) {
	s.Name = strings.TrimSpace(s.Name)
	if s.Name == "" || utf8.RuneCountInString(s.Name) > maxName {
		return s, ops.Errorf(ops.Invalid, "a saved request needs a name of up to %d characters", maxName)
	}
	s.ID, s.At, s.Request = strings.ToLower(ulid.Make().String()), time.Now(), keep(c, true)
	if len(s.Request) > keptRequest {
		return s, ops.Errorf(ops.Invalid, "the request is larger than %d KiB, which is as much as is kept", keptRequest>>10)
	}
	return s, d.cfg.Book.SaveCall(ctx, s)
}

// Saved returns the requests that were kept for a service.
func (d *Desk) Saved(ctx context.Context, p ops.ProjectName, s ops.ServiceName) ([]ops.SavedCall, error) {
	return d.cfg.Book.SavedCalls(ctx, p, s)
}

// Unsave forgets a request.
func (d *Desk) Unsave(ctx context.Context, id string) error {
	return d.cfg.Book.DeleteSavedCall(ctx, id)
}

// PutDescriptors checks a descriptor set and keeps it for a service.
func (d *Desk) PutDescriptors(ctx context.Context, set ops.DescriptorSet) error {
	if _, err := console.ParseDescriptors(set.Body); err != nil {
		return err
	}
	if !ops.ValidName(string(set.Project)) || !ops.ValidName(string(set.Service)) {
		return ops.Errorf(ops.Invalid, "%q/%q is no service: name project and service", set.Project, set.Service)
	}
	set.At = time.Now()
	if err := d.cfg.Book.PutDescriptors(ctx, set); err != nil {
		return err
	}
	d.forget(set.Project, set.Service)
	return nil
}

// Descriptors lists the sets that were uploaded, without their bodies.
func (d *Desk) Descriptors(ctx context.Context) ([]ops.DescriptorSet, error) {
	return d.cfg.Book.ListDescriptors(ctx)
}

// DeleteDescriptors forgets the set of a service, which is then asked itself.
func (d *Desk) DeleteDescriptors(ctx context.Context, p ops.ProjectName, s ops.ServiceName) error {
	if err := d.cfg.Book.DeleteDescriptors(ctx, p, s); err != nil {
		return err
	}
	d.forget(p, s)
	return nil
}

func (d *Desk) forget(p ops.ProjectName, s ops.ServiceName) {
	d.console.Forget(func(id ops.InstanceID) bool {
		inst, err := d.cfg.Instance(id)
		return err != nil || (inst.Project == p && inst.Service == s)
	})
}
