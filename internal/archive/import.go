package archive

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/opscenter/opscenter/internal/ops"
)

// The limits of a bundle. Whoever made it may wish us ill.
const (
	maxBundleFiles     = 20_000
	maxBundleDirectory = 16 << 20 // bytes of the zip's own list of files
	maxBundleBytes     = 64 << 30 // unpacked
	maxManifestBytes   = 16 << 20
	maxManifestObjects = 100_000
	maxManifestDepth   = 16
	maxFindingsBytes   = 64 << 20
	maxTargets         = 1_000
	maxArtifacts       = 500 // of one instance
	maxSpecSeconds     = 24 * 60 * 60
	// What a manifest says lies in the catalogue and in every list of captures
	// from then on, so it may say only so much beyond what its instances and
	// artifacts need.
	maxManifestWords = 1 << 20
	wordsPerTarget   = 8 << 10
	wordsPerArtifact = 2 << 10
	// A file may unpack to this many times its size, and beyond that only to
	// maxUnsuspicious.
	maxRatio        = 200
	maxUnsuspicious = 16 << 20
)

// Import adds the capture of a bundle, pinned, so that its age does not make
// retention delete it at once. Everything is verified: a bundle that is not what
// it says is Invalid or Corrupt with the reason, and nothing of it is left.
// Conflict if the capture is in the archive already.
func (a *Archive) Import(ctx context.Context, r io.ReaderAt, size int64, actor string) (ops.Capture, error) {
	if err := a.stopped(); err != nil {
		return ops.Capture{}, err
	}
	b, err := readBundle(r, size)
	if err != nil {
		return ops.Capture{}, err
	}
	c := b.manifest.capture()
	c.Actor, c.Pinned = actor, true
	if by := b.manifest.Capture.Actor; by != "" && by != actor {
		c.Note = strings.TrimSuffix("captured by "+by+": "+c.Note, ": ")
	}
	final := c
	c.State, c.Finished = ops.CaptureCommitting, time.Time{}
	if err := a.RoomFor(ctx, b.bytes); err != nil {
		return ops.Capture{}, err
	}
	if err := a.begin(ctx, c); ops.KindOf(err) == ops.Conflict {
		return ops.Capture{}, ops.Errorf(ops.Conflict, "capture %s is in the archive already: open it, or delete it first to import this bundle again", c.ID)
	} else if err != nil {
		return ops.Capture{}, err
	}
	defer a.ended(c.ID)
	err = a.importFiles(ctx, b)
	if err == nil {
		err = a.Update(ctx, final)
	}
	if err != nil {
		return ops.Capture{}, errors.Join(err, a.takeBack(context.WithoutCancel(ctx), c.ID))
	}
	return a.Capture(ctx, c.ID)
}

// RoomFor is Exhausted if the bytes of a bundle would eat into the reserve.
func (a *Archive) RoomFor(ctx context.Context, bytes int64) error {
	if err := a.space.check(ctx); err != nil {
		return ops.Errorf(ops.Exhausted, "no new captures: %w", err)
	}
	free, err := a.space.free(ctx)
	if err != nil {
		return ops.Errorf(ops.Exhausted, "the free space cannot be determined: %w", err)
	}
	if free >= 0 && free-bytes < a.space.reserve.Load() {
		return ops.Errorf(ops.Exhausted, "the bundle needs %s, but the disk has only %s free and %s are kept in reserve: delete captures or free some space",
			humanize.IBytes(uint64(bytes)), humanize.IBytes(uint64(free)), humanize.IBytes(uint64(a.space.reserve.Load())))
	}
	return nil
}

func (a *Archive) importFiles(ctx context.Context, b *bundle) error {
	for _, t := range b.manifest.Targets {
		for _, entry := range t.Artifacts {
			ref := ops.ArtifactRef{Capture: b.manifest.Capture.ID, Instance: t.Instance.ID, Name: entry.Name}
			if err := a.importFile(ctx, ref, entry, b.files[entry.Path]); err != nil {
				return err
			}
		}
	}
	if f := b.manifest.Findings; f != nil {
		// Checked like the rest, but not kept: findings are made anew by whoever
		// reads the capture, with the rules of the day.
		return checkFile(ctx, *f, b.files[f.Path], io.Discard)
	}
	return nil
}

func (a *Archive) importFile(ctx context.Context, ref ops.ArtifactRef, entry manifestArtifact, f *zip.File) error {
	w, err := a.create(ctx, ref, entry.artifact(), entry.Derived)
	if err != nil {
		return err
	}
	if err := checkFile(ctx, entry.manifestFile, f, w); err != nil {
		return errors.Join(err, w.discard())
	}
	sum, err := hex.DecodeString(entry.SHA256)
	if err != nil {
		return err
	}
	return w.Commit(entry.SizeBytes, sum, entry.artifact())
}

// takeBack leaves nothing of an import.
func (a *Archive) takeBack(ctx context.Context, id ops.CaptureID) error {
	if a.stopped() != nil {
		return nil //nolint:nilerr // the caller has that error already; recovery takes it back
	}
	c, err := a.Capture(ctx, id)
	if err != nil {
		return err
	}
	return a.erase(ctx, c)
}

// checkFile copies a file of a bundle and compares it with what the manifest
// says of it.
func checkFile(ctx context.Context, said manifestFile, f *zip.File, to io.Writer) error {
	r, err := f.Open()
	if err != nil {
		return damaged("%q cannot be unpacked: %w", said.Path, err)
	}
	defer r.Close() //nolint:errcheck // it was only read
	h := sha256.New()
	from := &untilDone{ctx, io.LimitReader(r, said.SizeBytes+1)}
	n, err := io.Copy(io.MultiWriter(to, h), from)
	var ours *ops.Error
	switch {
	case errors.As(err, &ours), ctx.Err() != nil:
		return err
	case errors.Is(err, zip.ErrFormat) || err == nil && n > said.SizeBytes:
		return damaged("%q is longer than the %d bytes it says it has", said.Path, said.SizeBytes)
	case errors.Is(err, io.ErrUnexpectedEOF) || err == nil && n < said.SizeBytes:
		return damaged("%q ends early: it says it has %d bytes", said.Path, said.SizeBytes)
	case err != nil:
		return damaged("%q cannot be unpacked: %w", said.Path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != said.SHA256 {
		return damaged("%q has SHA-256 %s, the manifest says %s", said.Path, got, said.SHA256)
	}
	return nil
}

// bundle is an opened bundle whose list of files and manifest are in order. What
// is in its files is not known yet.
type bundle struct {
	manifest manifest
	files    map[string]*zip.File
	bytes    int64 // unpacked
}

func refused(format string, args ...any) error {
	return ops.Errorf(ops.Invalid, "the bundle is refused: "+format, args...)
}

func damaged(format string, args ...any) error {
	return ops.Errorf(ops.Corrupt, "the bundle is damaged: "+format, args...)
}

func readBundle(r io.ReaderAt, size int64) (*bundle, error) {
	if n := listedFiles(r, size); n > maxBundleFiles {
		return nil, refused("it has %d files, at most %d are taken", n, maxBundleFiles)
	}
	guard := &budgetReader{r: r}
	guard.left.Store(maxBundleDirectory)
	z, err := zip.NewReader(guard, size)
	switch {
	case guard.spent.Load():
		return nil, refused("its list of files is longer than %s", humanize.IBytes(maxBundleDirectory))
	case errors.Is(err, zip.ErrFormat):
		return nil, refused("it is not a zip file, or only a part of one")
	case err != nil && !errors.Is(err, zip.ErrInsecurePath):
		return nil, refused("it cannot be read: %w", err)
	}
	guard.left.Store(math.MaxInt64) // its files are bounded one by one
	b := &bundle{files: map[string]*zip.File{}}
	if len(z.File) > maxBundleFiles {
		return nil, refused("it has %d files, at most %d are taken", len(z.File), maxBundleFiles)
	}
	for _, f := range z.File {
		if err := b.add(f); err != nil {
			return nil, err
		}
	}
	if b.bytes > maxUnsuspicious && b.bytes/maxRatio > size {
		return nil, refused("it is %d bytes and would unpack to %d", size, b.bytes)
	}
	if err := b.readManifest(); err != nil {
		return nil, err
	}
	return b, b.compare()
}

// add takes one entry of the zip's list of files.
func (b *bundle) add(f *zip.File) error {
	dir, name, nested := strings.Cut(f.Name, "/")
	switch {
	case f.Name == "" || strings.HasPrefix(f.Name, "/") || strings.ContainsAny(f.Name, "\\:\x00") || hasDots(f.Name):
		return refused("the name %q leads outside of it", f.Name)
	case nested && name == "" && ops.InstanceID(dir).Valid() && f.UncompressedSize64 == 0:
		return nil // a directory, from a bundle that was unpacked and packed again
	case !f.Mode().IsRegular():
		return refused("%q is not a plain file", f.Name)
	case nested && (!ops.InstanceID(dir).Valid() || !ops.ValidName(name)), !nested && f.Name != manifestName && f.Name != findingsName:
		return refused("%q has no place in it", f.Name)
	case b.files[f.Name] != nil:
		return refused("%q is there twice", f.Name)
	case f.Flags&1 != 0:
		return refused("%q is encrypted", f.Name)
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return refused("%q is packed with method %d: use store or deflate", f.Name, f.Method)
	case f.UncompressedSize64 > ops.MaxCaptureBytes:
		return refused("%q has %d bytes, at most %d are taken", f.Name, f.UncompressedSize64, ops.MaxCaptureBytes)
	case f.UncompressedSize64 > maxUnsuspicious && f.UncompressedSize64/maxRatio > f.CompressedSize64:
		return refused("%q would unpack from %d bytes to %d", f.Name, f.CompressedSize64, f.UncompressedSize64)
	}
	b.files[f.Name] = f
	b.bytes += int64(f.UncompressedSize64)
	if b.bytes > maxBundleBytes {
		return refused("it unpacks to more than %s", humanize.IBytes(maxBundleBytes))
	}
	return nil
}

func hasDots(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." || part == "." {
			return true
		}
	}
	return false
}

func (b *bundle) readManifest() error {
	f := b.files[manifestName]
	if f == nil {
		return refused("it has no %s at its top: it is not a bundle of a capture", manifestName)
	}
	if f.UncompressedSize64 > maxManifestBytes {
		return refused("%s has %d bytes, at most %d are taken", manifestName, f.UncompressedSize64, maxManifestBytes)
	}
	r, err := f.Open()
	if err != nil {
		return damaged("%s cannot be unpacked: %w", manifestName, err)
	}
	defer r.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(r, maxManifestBytes+1))
	if err != nil {
		return damaged("%s cannot be unpacked: %w", manifestName, err)
	}
	if err := modest(text); err != nil {
		return err
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return refused("%s is not what it should be: %w", manifestName, err)
	}
	if head.Schema != manifestSchema {
		return refused("%s has schema %q, this version reads %q: import it with a newer version", manifestName, head.Schema, manifestSchema)
	}
	if err := json.Unmarshal(text, &b.manifest); err != nil {
		return refused("%s is not what it should be: %w", manifestName, err)
	}
	words, most := int64(len(text)), int64(maxManifestWords)
	for _, t := range b.manifest.Targets {
		most += wordsPerTarget + int64(len(t.Artifacts))*wordsPerArtifact
	}
	if words > most {
		return refused("%s has %d bytes, at most %d are taken for its instances and artifacts", manifestName, words, most)
	}
	return nil
}

// modest refuses JSON that would take much more memory than it has bytes.
func modest(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	depth, objects := 0, 0
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return refused("%s is not JSON: %w", manifestName, err)
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			objects++
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth > maxManifestDepth {
			return refused("%s is nested deeper than %d levels", manifestName, maxManifestDepth)
		}
		if objects > maxManifestObjects {
			return refused("%s has more than %d objects", manifestName, maxManifestObjects)
		}
	}
}

// compare checks what the manifest says, and that it speaks of exactly the files
// that are there.
func (b *bundle) compare() error {
	m := &b.manifest
	c := m.Capture
	switch {
	case !c.ID.Valid():
		return refused("%q is no capture id", c.ID)
	case !ops.ValidName(string(c.Project)):
		return refused("%q is no name of a project", c.Project)
	case !ops.ValidName(string(c.Service)):
		return refused("%q is no name of a service", c.Service)
	case !c.State.Ended():
		return refused("its capture is in state %q, which is no end", c.State)
	case c.Reason == deletingReason:
		return refused("its capture was being deleted")
	case !plausible(c.Created) || !plausible(c.Finished):
		return refused("its capture was made at a time that cannot be")
	case !(c.Spec.Seconds >= 0 && c.Spec.Seconds <= maxSpecSeconds && c.Spec.TraceWindowSeconds >= 0 && c.Spec.TraceWindowSeconds <= maxSpecSeconds):
		return refused("its capture took a time that cannot be")
	case len(m.Targets) == 0:
		return refused("its capture has no instance")
	case len(m.Targets) > maxTargets:
		return refused("its capture has %d instances, at most %d are taken", len(m.Targets), maxTargets)
	}
	spoken := map[string]bool{manifestName: true}
	instances := map[ops.InstanceID]bool{}
	for _, t := range m.Targets {
		if err := b.compareTarget(t, spoken); err != nil {
			return err
		}
		if instances[t.Instance.ID] {
			return refused("instance %s is there twice", t.Instance.ID)
		}
		instances[t.Instance.ID] = true
	}
	if f := m.Findings; f != nil {
		if f.Path != findingsName {
			return refused("its findings are in %q instead of %q", f.Path, findingsName)
		}
		if f.SizeBytes > maxFindingsBytes {
			return refused("%q has %d bytes, at most %d are taken", f.Path, f.SizeBytes, maxFindingsBytes)
		}
		if err := b.compareFile(*f, spoken); err != nil {
			return err
		}
	}
	for name := range b.files {
		if !spoken[name] {
			return refused("%q is not in its manifest", name)
		}
	}
	return nil
}

func (b *bundle) compareTarget(t manifestTarget, spoken map[string]bool) error {
	i := t.Instance
	switch {
	case !i.ID.Valid():
		return refused("%q is no instance id", i.ID)
	case !ops.ValidName(string(i.Project)):
		return refused("%q is no name of a project", i.Project)
	case !ops.ValidName(string(i.Service)):
		return refused("%q is no name of a service", i.Service)
	case !t.State.Ended():
		return refused("instance %s is in state %q, which is no end", i.ID, t.State)
	case math.Abs(i.ClockOffsetSeconds) > math.MaxInt64/2/float64(time.Second),
		!plausible(t.WindowStart) || !plausible(t.WindowEnd) || !plausible(i.Build.VCSTime) || !plausible(i.Process.StartTime) || i.Heartbeat != nil && !plausible(i.Heartbeat.At):
		return refused("instance %s has a time that cannot be", i.ID)
	case len(t.Artifacts) > maxArtifacts:
		return refused("instance %s has %d artifacts, at most %d are taken", i.ID, len(t.Artifacts), maxArtifacts)
	}
	var received, derived int64
	for _, e := range t.Artifacts {
		if !ops.ValidName(e.Name) {
			return refused("%q is no name of an artifact", e.Name)
		}
		if want := string(i.ID) + "/" + e.Name; e.Path != want {
			return refused("artifact %s of instance %s is in %q instead of %q", e.Name, i.ID, e.Path, want)
		}
		if e.Kind != "" && !ops.ValidName(string(e.Kind)) || e.Phase != "" && !ops.ValidName(string(e.Phase)) {
			return refused("%q has a kind or phase that cannot be", e.Path)
		}
		if !plausible(e.TakenAt) || !plausible(e.WindowStart) || !plausible(e.WindowEnd) {
			return refused("%q has a time that cannot be", e.Path)
		}
		if err := b.compareFile(e.manifestFile, spoken); err != nil {
			return err
		}
		if e.Derived {
			derived += e.SizeBytes
		} else {
			received += e.SizeBytes
		}
	}
	if received > ops.MaxCaptureBytes || derived > ops.MaxCaptureBytes {
		return refused("instance %s has more than %d bytes", i.ID, ops.MaxCaptureBytes)
	}
	return nil
}

func (b *bundle) compareFile(f manifestFile, spoken map[string]bool) error {
	entry := b.files[f.Path]
	sum, err := hex.DecodeString(f.SHA256)
	switch {
	case spoken[f.Path]:
		return refused("its manifest has %q twice", f.Path)
	case entry == nil:
		return refused("%q is in its manifest, but not in it", f.Path)
	case f.SizeBytes < 0 || entry.UncompressedSize64 != uint64(f.SizeBytes):
		return damaged("%q has %d bytes, the manifest says %d", f.Path, entry.UncompressedSize64, f.SizeBytes)
	case err != nil || len(sum) != sha256.Size || f.SHA256 != strings.ToLower(f.SHA256):
		return refused("%q is no SHA-256 of %q", f.SHA256, f.Path)
	}
	spoken[f.Path] = true
	return nil
}

// plausible reports whether a time can be stored: unknown, or within the years
// that every format here can say.
func plausible(t time.Time) bool {
	return t.IsZero() || t.Year() >= 1970 && t.Year() < 9999
}

// listedFiles returns how many files a zip64 says it has: archive/zip sets memory
// aside for them before it looks. Other zips cannot name more than 65,535.
func listedFiles(r io.ReaderAt, size int64) uint64 {
	const endLen, locatorLen = 22, 20
	tail := make([]byte, min(size, endLen+locatorLen+math.MaxUint16))
	if n, err := r.ReadAt(tail, size-int64(len(tail))); n < len(tail) && err != nil || n < endLen {
		return 0 // it is no zip, or unreadable, which archive/zip will say
	}
	end := bytes.LastIndex(tail[:len(tail)-endLen+4], []byte("PK\x05\x06"))
	if end < locatorLen || !bytes.HasPrefix(tail[end-locatorLen:], []byte("PK\x06\x07")) {
		return 0
	}
	var end64 [56]byte
	at := binary.LittleEndian.Uint64(tail[end-locatorLen+8:])
	if at > math.MaxInt64 {
		return 0
	}
	if n, _ := r.ReadAt(end64[:], int64(at)); n < len(end64) || !bytes.HasPrefix(end64[:], []byte("PK\x06\x06")) {
		return 0
	}
	return binary.LittleEndian.Uint64(end64[32:])
}

// budgetReader fails once more bytes were read than are left: archive/zip keeps
// a record of every file a zip lists, however many that are.
type budgetReader struct {
	r     io.ReaderAt
	left  atomic.Int64
	spent atomic.Bool
}

var errBudget = errors.New("too much was read")

func (b *budgetReader) ReadAt(p []byte, off int64) (int, error) {
	if b.left.Add(-int64(len(p))) < 0 {
		b.spent.Store(true)
		return 0, errBudget
	}
	return b.r.ReadAt(p, off)
}
