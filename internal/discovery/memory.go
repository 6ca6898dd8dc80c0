package discovery

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

const (
	// recallAfter is how long a source has for its first list before the one from
	// the centre's last run takes its place: a backend that answers does so sooner,
	// so that nothing is dialled that was deleted meanwhile.
	recallAfter = 5 * time.Second
	saveEvery   = 5 * time.Second
	// maxRememberedBytes is above what 20,000 targets with all their labels take.
	maxRememberedBytes = 256 << 20
)

// remembered is the file of one source.
type remembered struct {
	Source  string       `json:"source"`
	Saved   time.Time    `json:"saved"`
	Targets []ops.Target `json:"targets"`
}

func (m *Manager) file(in *slot) string {
	sum := sha256.Sum256([]byte(in.source.Name()))
	return filepath.Join(m.dir, hex.EncodeToString(sum[:8])+".json")
}

// recall gives a source that says nothing after a while the list of the last run.
func (m *Manager) recall(ctx context.Context, in *slot) {
	sleep(ctx, recallAfter)
	if ctx.Err() != nil || m.heard(in) {
		return
	}
	list, saved, err := m.load(in)
	switch {
	case os.IsNotExist(err):
		return
	case err != nil:
		m.log.Warn("what the source said before the centre started cannot be read", "source", in.source.Name(), "error", err)
		return
	}
	m.log.Warn("the source has not said yet what there is: its list from before the centre started is taken", "source", in.source.Name(), "targets", len(list), "saved", saved)
	m.apply(in, list, saved)
}

func (m *Manager) heard(in *slot) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !in.heard.IsZero()
}

func (m *Manager) load(in *slot) ([]ops.Target, time.Time, error) {
	name := m.file(in)
	fi, err := os.Stat(name)
	if err != nil {
		return nil, time.Time{}, err
	}
	if fi.Size() > maxRememberedBytes {
		return nil, time.Time{}, ops.Errorf(ops.Exhausted, "%s is larger than %d MiB", name, maxRememberedBytes>>20)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, time.Time{}, err
	}
	var r remembered
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, time.Time{}, ops.Errorf(ops.Corrupt, "%s: %w", name, err)
	}
	// The file may be of another version, or touched: its targets are foreign.
	list := r.Targets[:0]
	for _, t := range r.Targets {
		if t, err := Normalize(t); err == nil {
			list = append(list, t)
		}
	}
	return list, r.Saved, nil
}

// keep writes changed lists now and then, and once more at the end.
func (m *Manager) keep(ctx context.Context) {
	for ctx.Err() == nil {
		sleep(ctx, saveEvery)
		m.save()
	}
}

func (m *Manager) save() {
	m.mu.Lock()
	slots := m.slots
	m.mu.Unlock()
	for _, in := range slots {
		m.mu.Lock()
		unsaved, list := in.unsaved, in.list
		in.unsaved = false
		m.mu.Unlock()
		if !unsaved {
			continue
		}
		if err := m.write(in, list); err != nil {
			m.log.Warn("the list of a source is not remembered beyond this run", "source", in.source.Name(), "error", err)
		}
	}
}

func (m *Manager) write(in *slot, list []ops.Target) error {
	b, err := json.Marshal(remembered{in.source.Name(), time.Now().UTC(), list})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(m.dir, ".list-*") // 0600: URLs may hold passwords
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = cmp.Or(err, f.Close()); err != nil {
		return err
	}
	// No fsync: a list that is lost with the power is asked for again.
	return os.Rename(f.Name(), m.file(in))
}
