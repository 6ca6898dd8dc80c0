package evidence

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/heaptypes"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/trace"
)

// File is an artifact, wherever it comes from. What it is, is read from its
// content; of its name only "before" and "after" are believed, where two files
// are of one kind.
type File struct {
	Name   string
	Reader io.ReaderAt
	Size   int64
}

// Options of Load. The zero value works.
type Options struct {
	// Instance is what is known of the process from elsewhere.
	Instance ops.Instance
	// Losses that are known from elsewhere.
	Losses []ops.Loss
	// Trigger is the call because of which a rule took the capture; nil = none.
	Trigger *ops.Call
	Limits  profile.Limits
}

// Load reads the artifacts of one instance's window. What cannot be read is
// stated in Losses. The error is Invalid if nothing of what was given is an
// artifact, else the context's.
func Load(ctx context.Context, files []File, o Options) (*Evidence, error) {
	l := &loader{o: o, e: &Evidence{Instance: o.Instance, Trigger: o.Trigger, Losses: slices.Clone(o.Losses)}, profiles: map[ops.Kind][]snapshot{}}
	for _, step := range []func(context.Context, File) error{l.describe, l.collect} {
		for _, f := range files {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := step(ctx, f); err != nil {
				return nil, err
			}
		}
		if l.e.Frames == nil {
			l.e.Frames = NewFrames(l.e.Instance.Build.ModulePath)
		}
	}
	if l.read == 0 {
		return nil, ops.Errorf(ops.Invalid, "%s: give profiles, traces or goroutine dumps as net/http/pprof serves them, or a capture's files", l.nothing(files))
	}
	l.arrange()
	l.window()
	if r := l.e.Runtime; r != nil {
		r.Setters.GOGC, r.Setters.MemoryLimit = frames(l.e.Frames, r.Process.GOGCSetAt), frames(l.e.Frames, r.Process.GoMemoryLimitSetAt)
	}
	l.e.Frames.TellApart()
	return l.e, nil
}

type loader struct {
	o        Options
	e        *Evidence
	profiles map[ops.Kind][]snapshot
	gs       []groups
	types    *heaptypes.Table
	binary   *File // the process's executable
	read     int
	bad      []string // files that are nothing of ours
}

// snapshot is a profile that was read, and which end of the window it claims.
type snapshot struct {
	name  string
	phase ops.Phase // "" = the name does not say
	p     *profile.Profile
	raw   File
}

type groups struct {
	phase ops.Phase
	name  string
	s     *goroutines.Snapshot
}

func (l *loader) nothing(files []File) string {
	if len(files) == 0 {
		return "there is nothing to diagnose"
	}
	why := l.bad
	if len(why) == 0 { // all were known for what they are, and broken
		for _, x := range l.e.Losses {
			why = append(why, x.Message)
		}
	}
	const most = 5 // who gives a whole directory of something else need not read it all
	if n := len(why); n > most {
		why = append(why[:most:most], fmt.Sprintf("and %d more", n-most))
	}
	return fmt.Sprintf("none of the %d files is an artifact (%s)", len(files), strings.Join(why, "; "))
}

// lose states what could not be read of a file.
func (l *loader) lose(k ops.Kind, name string, err error) {
	reason := ops.LossFailed
	if ops.KindOf(err) == ops.Exhausted {
		reason = ops.LossSkipped
	}
	l.e.Losses = append(l.e.Losses, ops.Loss{Kind: k, Reason: reason, Message: fmt.Sprintf("%s could not be read: %v", path.Base(name), err)})
}

// dumpBytes is how much net/http/pprof writes of a goroutine dump at most.
const dumpBytes = 64 << 20

type format uint8

const (
	unknownFile format = iota
	jsonFile
	traceFile
	textFile
	zipFile
	elfFile
	packedFile // gzip around a trace or a dump; profiles are gzip by themselves
	countsFile // a profile other than that of goroutines as ?debug=1 writes it
	profileFile
)

// countsHeads begin the text forms of runtime/pprof, which are for people.
var countsHeads = [][]byte{[]byte("heap profile: "), []byte("--- contention:"), []byte("--- mutex:"), []byte("threadcreate profile: ")}

func formatOf(f File) (format, []byte) {
	// Crash logs have a few lines before the goroutines.
	head := make([]byte, min(64<<10, max(0, f.Size)))
	n, err := f.Reader.ReadAt(head, 0)
	if err != nil && n < len(head) {
		return unknownFile, nil
	}
	switch {
	case n == 0:
		return unknownFile, head
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		if inside := peek(head); bytes.HasPrefix(inside, []byte("go 1.")) || bytes.HasPrefix(inside, []byte("goroutine ")) {
			return packedFile, head
		}
		return profileFile, head
	case slices.ContainsFunc(countsHeads, func(h []byte) bool { return bytes.HasPrefix(head, h) }):
		return countsFile, head
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return zipFile, head
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return elfFile, head
	case bytes.HasPrefix(head, []byte("go 1.")) && n >= 16:
		return traceFile, head
	case bytes.HasPrefix(head, []byte("goroutine ")), bytes.Contains(head, []byte("\ngoroutine ")):
		return textFile, head
	case bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{")):
		return jsonFile, head
	}
	return profileFile, head
}

// peek returns the first bytes of what is packed in head, as far as it says.
func peek(head []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(head))
	if err != nil {
		return nil
	}
	inside := make([]byte, 16)
	n, _ := io.ReadFull(z, inside) // a head ends somewhere in the middle
	return inside[:n]
}

func section(f File) *io.SectionReader { return io.NewSectionReader(f.Reader, 0, f.Size) }

// phaseOf believes a name that says which end of the window it is.
func phaseOf(name string) ops.Phase {
	switch base := path.Base(name); {
	case strings.Contains(base, ".before."):
		return ops.PhaseBefore
	case strings.Contains(base, ".after."):
		return ops.PhaseAfter
	}
	return ""
}

// describe reads what says who the process is: frames need its module.
func (l *loader) describe(_ context.Context, f File) error {
	if is, _ := formatOf(f); is != jsonFile {
		return nil
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if f.Size > runtimeBytes {
		l.lose("", f.Name, ops.Errorf(ops.Exhausted, "larger than %d MiB", runtimeBytes>>20))
		return nil
	}
	b, err := io.ReadAll(section(f))
	if err != nil {
		return fmt.Errorf("reading %s: %w", f.Name, err)
	}
	if err := json.Unmarshal(b, &head); err != nil {
		l.lose("", f.Name, ops.Errorf(ops.Corrupt, "it is no JSON: %w", err))
		return nil
	}
	switch head.Schema {
	case "opscenter.runtime/v1":
		r, err := ReadRuntime(bytes.NewReader(b))
		switch {
		case err != nil:
			l.lose(ops.KindRuntime, f.Name, err)
		case r.Window.Phase == "before":
			l.e.RuntimeBefore, l.read = r, l.read+1
		default:
			l.e.Runtime, l.read = r, l.read+1
		}
		if err == nil {
			identify(&l.e.Instance, r)
		}
	case "opscenter.heaptypes/v1":
		t, err := heaptypes.Read(bytes.NewReader(b), heaptypes.Limits{})
		if err != nil {
			l.lose(ops.KindHeapTypes, f.Name, err)
			return nil
		}
		l.types = t
	case "opscenter.manifest/v1", "opscenter.diagnosis/v1", "opscenter.diagnosis-set/v1":
	default:
		l.bad = append(l.bad, fmt.Sprintf("%s has the schema %q", path.Base(f.Name), head.Schema))
	}
	return nil
}

// identify fills in what a runtime.json knows and nobody else said.
func identify(i *ops.Instance, r *Runtime) {
	i.ID = cmp.Or(i.ID, ops.InstanceID(r.Instance.ID))
	i.Project = cmp.Or(i.Project, ops.ProjectName(r.Instance.Project))
	i.Service = cmp.Or(i.Service, ops.ServiceName(r.Instance.Service))
	i.Agentless = i.Agentless || r.Instance.Agentless
	if i.Labels == nil {
		i.Labels = r.Instance.Labels
	}
	b, p := &i.Build, &i.Process
	b.GoVersion = cmp.Or(b.GoVersion, r.Build.GoVersion)
	b.ModulePath = cmp.Or(b.ModulePath, r.Build.ModulePath)
	b.ModuleVersion = cmp.Or(b.ModuleVersion, r.Build.ModuleVersion)
	b.VCSRevision = cmp.Or(b.VCSRevision, r.Build.VCSRevision)
	b.BuildID = cmp.Or(b.BuildID, r.Build.BuildID)
	b.GOOS, b.GOARCH = cmp.Or(b.GOOS, r.Build.GOOS), cmp.Or(b.GOARCH, r.Build.GOARCH)
	p.PID = cmp.Or(p.PID, r.Process.PID)
	p.Hostname = cmp.Or(p.Hostname, r.Process.Hostname)
	p.Executable = cmp.Or(p.Executable, r.Process.Executable)
	p.GOMAXPROCS, p.NumCPU = cmp.Or(p.GOMAXPROCS, r.Process.GOMAXPROCS), cmp.Or(p.NumCPU, r.Process.NumCPU)
	p.GOGC = cmp.Or(p.GOGC, r.Process.GOGC)
	p.GoMemoryLimitBytes = cmp.Or(p.GoMemoryLimitBytes, r.Process.GoMemoryLimitBytes)
	p.CPUQuotaCores = cmp.Or(p.CPUQuotaCores, r.Cgroup.CPUQuotaCores)
	p.MemoryLimitBytes = cmp.Or(p.MemoryLimitBytes, r.Cgroup.MemoryLimitBytes)
	if p.StartTime.IsZero() {
		p.StartTime = r.Process.Started
	}
}

// collect reads everything else.
func (l *loader) collect(ctx context.Context, f File) error {
	is, head := formatOf(f)
	switch is {
	case jsonFile:
		return nil
	case unknownFile:
		if f.Size == 0 {
			l.e.Losses = append(l.e.Losses, ops.Loss{Kind: kindOfName(f.Name), Reason: ops.LossFailed, Message: path.Base(f.Name) + " is empty"})
		}
		l.bad = append(l.bad, path.Base(f.Name)+" is empty or cannot be read")
	case zipFile:
		l.bad = append(l.bad, path.Base(f.Name)+" is a zip file, which is diagnosed by itself")
	case elfFile:
		l.binary = &f
	case traceFile:
		return l.trace(ctx, f)
	case textFile:
		if at := int64(bytes.Index(head, []byte("\ngoroutine ")) + 1); at > 0 && !bytes.HasPrefix(head, []byte("goroutine ")) {
			// What a log has before it is not ours to read.
			f = File{Name: f.Name, Reader: io.NewSectionReader(f.Reader, at, f.Size-at), Size: f.Size - at}
		}
		// Go ends a dump here; what goes on is somebody else's, and each of its stacks
		// may be a new one.
		if f.Size > dumpBytes {
			f.Size = dumpBytes
			l.e.Losses = append(l.e.Losses, ops.Loss{Kind: ops.KindGoroutineDump, Reason: ops.LossTruncated, Message: fmt.Sprintf("%s: only the first %d MiB were read, which is as much as Go writes", path.Base(f.Name), dumpBytes>>20)})
		}
		l.goroutines(f)
	case countsFile:
		name, _, _ := bytes.Cut(head, []byte(":"))
		l.lose(kindOfName(f.Name), f.Name, ops.Errorf(ops.Invalid, "it is %q in the text form of ?debug=1, which has no exact stacks: fetch it without ?debug", bytes.Trim(name, "- ")))
		l.bad = append(l.bad, path.Base(f.Name)+" is a profile in the text form of ?debug=1: fetch it without ?debug")
	case packedFile:
		plain, err := profile.Decompress(section(f), l.o.Limits)
		if err != nil {
			l.lose(kindOfName(f.Name), f.Name, err)
			return nil
		}
		return l.collect(ctx, File{Name: strings.TrimSuffix(f.Name, ".gz"), Reader: bytes.NewReader(plain), Size: int64(len(plain))})
	case profileFile:
		l.profile(f)
	}
	return nil
}

func (l *loader) trace(ctx context.Context, f File) error {
	if l.e.Trace != nil {
		l.e.Losses = append(l.e.Losses, ops.Loss{Kind: ops.KindTrace, Reason: ops.LossSkipped, Message: path.Base(f.Name) + " is a second trace: the first one was read"})
		return nil
	}
	t, err := trace.Open(f.Reader, f.Size)
	if err != nil {
		l.lose(ops.KindTrace, f.Name, err)
		return nil
	}
	defer t.Close() //nolint:errcheck // read only
	out, loss, err := OfTrace(ctx, t, l.e.Frames, l.o.Trigger)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		l.lose(ops.KindTrace, f.Name, err)
		return nil
	}
	if loss != nil {
		loss.Kind = ops.KindTrace
		l.e.Losses = append(l.e.Losses, *loss)
	}
	l.e.Trace, l.read = out, l.read+1
	return nil
}

func (l *loader) goroutines(f File) {
	s, err := goroutines.Read(section(f), l.o.Limits)
	if err != nil {
		l.lose(ops.KindGoroutine, f.Name, err)
		return
	}
	if s.Loss != "" {
		l.e.Losses = append(l.e.Losses, ops.Loss{Kind: ops.KindGoroutineDump, Reason: ops.LossTruncated, Message: path.Base(f.Name) + ": " + s.Loss})
	}
	l.gs, l.read = append(l.gs, groups{phase: phaseOf(f.Name), name: f.Name, s: s}), l.read+1
}

func (l *loader) profile(f File) {
	p, err := profile.Read(section(f), l.o.Limits)
	if err != nil {
		if k := kindOfName(f.Name); k != "" {
			l.lose(k, f.Name, err)
		}
		l.bad = append(l.bad, fmt.Sprintf("%s: %v", path.Base(f.Name), err))
		return
	}
	k := kindOfProfile(p, f.Name)
	switch k {
	case "":
		l.bad = append(l.bad, path.Base(f.Name)+" is a profile of a kind that rules do not read")
	case ops.KindGoroutine:
		l.goroutines(f)
	default:
		l.profiles[k], l.read = append(l.profiles[k], snapshot{name: f.Name, phase: phaseOf(f.Name), p: p, raw: f}), l.read+1
	}
}

// kindOfName guesses what a file that cannot be read should have been.
func kindOfName(name string) ops.Kind {
	stem, _, _ := strings.Cut(path.Base(name), ".")
	if k, err := ops.ParseKind(stem); err == nil {
		return k
	}
	return ""
}

// kindOfProfile tells profiles apart by their sample types, and block and mutex,
// which have the same, by what their stacks end in: a mutex profile blames those
// who unlock. Only empty ones are told apart by their name.
func kindOfProfile(p *profile.Profile, name string) ops.Kind {
	has := func(t string) bool {
		return slices.ContainsFunc(p.Types, func(v profile.ValueType) bool { return v.Type == t })
	}
	switch {
	case has("cpu"):
		return ops.KindCPU
	case has("inuse_space"):
		if p.DefaultType == "alloc_space" {
			return ops.KindAllocs
		}
		return ops.KindHeap
	case has("goroutineleak"):
		return ops.KindGoroutineLeak
	case has("goroutine"):
		return ops.KindGoroutine
	case has("contentions"):
		return contention(p, name)
	}
	return ""
}

func contention(p *profile.Profile, name string) ops.Kind {
	for i := range p.Samples() {
		for _, loc := range p.Stack(i) {
			l := p.Locations[loc]
			for _, ln := range p.Lines[l.From:l.To] {
				fn := p.Strings[p.Functions[ln.Function].Name]
				switch {
				case strings.HasPrefix(fn, "runtime.unlock"), fn == "runtime._LostContendedRuntimeLock":
					return ops.KindMutex
				case strings.HasPrefix(fn, "runtime."), strings.HasPrefix(fn, "internal/"):
					continue
				case strings.HasPrefix(fn, "sync.") && strings.HasSuffix(fn, "nlock"): // Unlock, RUnlock
					return ops.KindMutex
				}
				return ops.KindBlock
			}
		}
	}
	if k := kindOfName(name); k == ops.KindMutex || k == ops.KindBlock {
		return k
	}
	return ""
}

// arrange says which of several profiles of a kind is which, and makes stacks of
// them.
func (l *loader) arrange() {
	e := l.e
	e.CPU = l.cpu()
	if before, after := l.ends(ops.KindHeap); after != nil {
		e.Heap = OfProfile(ops.KindHeap, after.p, e.Frames)
		if before != nil {
			e.HeapBefore = OfProfile(ops.KindHeap, before.p, e.Frames)
		}
	}
	if _, after := l.ends(ops.KindAllocs); e.Heap == nil && after != nil && after.p.DurationNanos == 0 && after.phase != ops.PhaseBefore {
		// It is the same profile under another name, as go test -memprofile writes it.
		e.Heap = OfProfile(ops.KindHeap, after.p, e.Frames)
	}
	e.Allocs, e.Block, e.Mutex = l.delta(ops.KindAllocs), l.delta(ops.KindBlock), l.delta(ops.KindMutex)
	if _, leaks := l.ends(ops.KindGoroutineLeak); leaks != nil {
		e.Leaks = OfProfile(ops.KindGoroutineLeak, leaks.p, e.Frames)
	}
	l.arrangeGoroutines()
	l.arrangeTypes()
}

// arrangeTypes names the types of the heap: from the executable, which tells
// most, else from what the process said of itself.
func (l *loader) arrangeTypes() {
	heap := l.e.Heap
	if heap == nil {
		return
	}
	table := l.types
	if l.binary != nil {
		t, err := heaptypes.ResolveELF(l.binary.Reader, heap.Source)
		if err != nil {
			l.lose(ops.KindHeapTypes, l.binary.Name, err)
		} else {
			table = t
			l.e.Losses = slices.DeleteFunc(l.e.Losses, func(x ops.Loss) bool { return x.Kind == ops.KindHeapTypes })
		}
	}
	if table == nil {
		return
	}
	t, err := ofHeapTypes(heap, table, l.e.Frames)
	if err != nil {
		l.lose(ops.KindHeapTypes, ops.KindHeapTypes.FileName(), err)
		return
	}
	l.e.Types = t
}

func (l *loader) cpu() *Profile {
	segments := l.profiles[ops.KindCPU]
	switch len(segments) {
	case 0:
		return nil
	case 1:
		return OfProfile(ops.KindCPU, segments[0].p, l.e.Frames)
	}
	var sum bytes.Buffer
	in := make([]io.Reader, len(segments))
	for i, s := range segments {
		in[i] = section(s.raw)
	}
	err := profile.Merge(&sum, l.o.Limits, in...)
	if err == nil {
		var p *profile.Profile
		if p, err = profile.Read(&sum, l.o.Limits); err == nil {
			return OfProfile(ops.KindCPU, p, l.e.Frames)
		}
	}
	l.lose(ops.KindCPU, segments[1].name, err)
	return OfProfile(ops.KindCPU, segments[0].p, l.e.Frames)
}

// ends returns the snapshots at the window's ends: by their names, else by the
// time they were taken. after is nil only if there is none.
func (l *loader) ends(k ops.Kind) (before, after *snapshot) {
	all := l.profiles[k]
	slices.SortStableFunc(all, func(a, b snapshot) int {
		return cmp.Or(cmp.Compare(order(a.phase), order(b.phase)), cmp.Compare(a.p.TimeNanos, b.p.TimeNanos))
	})
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		return nil, &all[0]
	}
	return &all[0], &all[len(all)-1]
}

func order(p ops.Phase) int {
	switch p {
	case ops.PhaseBefore:
		return 0
	case ops.PhaseAfter:
		return 2
	}
	return 1
}

// delta returns what a counting profile gained in the window: as it was made
// already, or of two snapshots; else the whole life's, marked so.
func (l *loader) delta(k ops.Kind) *Profile {
	for _, s := range l.profiles[k] {
		if s.phase == "" && s.p.DurationNanos > 0 {
			return OfProfile(k, s.p, l.e.Frames)
		}
	}
	before, after := l.ends(k)
	if after == nil {
		return nil
	}
	if before != nil {
		var diff bytes.Buffer
		err := profile.Delta(&diff, l.o.Limits, section(before.raw), section(after.raw))
		if err == nil {
			var p *profile.Profile
			if p, err = profile.Read(&diff, l.o.Limits); err == nil {
				return OfProfile(k, p, l.e.Frames)
			}
		}
		l.lose(k, before.name, err)
	}
	if after.phase == ops.PhaseBefore {
		// Only the window's start is there: it says nothing of the window.
		return nil
	}
	out := OfProfile(k, after.p, l.e.Frames)
	out.Whole = true
	return out
}

func (l *loader) arrangeGoroutines() {
	var counts []groups
	for _, g := range l.gs {
		if g.s.Format == goroutines.Dump {
			if l.e.Dump == nil {
				l.e.Dump = OfGoroutines(g.s, l.e.Frames)
			}
			continue
		}
		counts = append(counts, g)
	}
	slices.SortStableFunc(counts, func(a, b groups) int {
		return cmp.Or(cmp.Compare(order(a.phase), order(b.phase)), a.s.Taken.Compare(b.s.Taken))
	})
	if n := len(counts); n > 0 {
		l.e.Goroutines = OfGoroutines(counts[n-1].s, l.e.Frames)
		if n > 1 && counts[0].s.Format == counts[n-1].s.Format {
			l.e.GoroutinesBefore = OfGoroutines(counts[0].s, l.e.Frames)
		}
	}
}

// window is how long was looked at, by whoever says so.
func (l *loader) window() {
	e := l.e
	if r := e.Runtime; r != nil {
		e.Start, e.Window = r.Window.Start, time.Duration(r.Window.Seconds*float64(time.Second))
	}
	if e.CPU != nil {
		e.Window = cmp.Or(e.Window, e.CPU.Duration)
		if e.Start.IsZero() && e.CPU.Source.TimeNanos > 0 {
			e.Start = time.Unix(0, e.CPU.Source.TimeNanos).UTC()
		}
	}
	if e.Trace != nil {
		e.Window = cmp.Or(e.Window, e.Trace.Duration)
	}
}
