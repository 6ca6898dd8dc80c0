package agent

import (
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/opscenter/opscenter/agent/heaptypes"
	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// typeNamer names the types of heap objects. It looks at the program at its
// first use, which takes a millisecond, and remembers what it saw.
type typeNamer struct {
	mu      sync.Mutex // one capture at a time; guards what follows
	tried   bool
	process *heaptypes.Process
	err     error
}

var errTypesOff = errors.New("naming types is turned off in this process, by Config.HeapTypes or OPS_HEAP_TYPES")

// hasHeapTypes says whether types can be named on this system at all.
func hasHeapTypes() bool {
	return runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64")
}

// name returns the types of the process's heap profile, or why there are none.
func (n *typeNamer) name(w *window) (heaptypes.Table, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.tried {
		n.tried = true
		n.process, n.err = heaptypes.NewProcess()
	}
	if n.err != nil {
		return heaptypes.Table{}, n.err
	}
	t, err := n.process.Collect(w.ctx)
	t.Build.BuildID = w.agent.self.build.GetBuildId()
	return t, err
}

// types takes the types of the heap profile that was written before. Only the
// last one states why there are none.
func (w *window) types(name string, phase agentv1.Phase) {
	if !w.wants(agentv1.Kind_KIND_HEAP_TYPES) || w.dead() {
		return
	}
	w.doing("types of heap objects")
	at := time.Now()
	table, err := heaptypes.Table{}, errTypesOff
	if !w.agent.cfg.noHeapTypes {
		table, err = w.agent.types.name(w)
	}
	if err != nil {
		if phase == agentv1.Phase_PHASE_AFTER {
			w.lose(loss(agentv1.Kind_KIND_HEAP_TYPES, lossUnsupported, "the types of heap objects are not named: %v", err))
		}
		return
	}
	var losses []*agentv1.Loss
	for _, l := range table.Losses {
		losses = append(losses, loss(agentv1.Kind_KIND_HEAP_TYPES, lossTruncated, "%s: %s", name, l))
	}
	a := w.newArtifact(name, agentv1.Kind_KIND_HEAP_TYPES, phase, 0, at)
	losses = append(losses, a.fill(func(out io.Writer) error { return json.NewEncoder(out).Encode(table) })...)
	a.close(time.Now(), losses...)
}
