package ops

import (
	"context"
	"io"
	"time"
)

// Link is the way to one instance, whatever it is made of: an agent that dialled
// in, an agent that listens, or pprof endpoints. Its implementations run the
// suite in opstest. All methods may be called concurrently.
type Link interface {
	// Collect runs one window on the instance and hands its artifacts to sink as
	// they arrive. The spec is normalized. It returns when the instance said its
	// last word, when ctx ended (the data on the instance is then dropped), or
	// when the connection was lost and could not be resumed within the link's
	// patience; what arrived until then has gone to sink, and the error says the
	// rest. A kind that cannot be collected is a loss, not an error.
	//
	// An artifact is acknowledged to the instance only after Commit returned nil.
	Collect(ctx context.Context, id CaptureID, spec Spec, sink Sink) (CollectSummary, error)
	// Stop ends the window of a running Collect now and keeps its data. NotFound
	// if no such window runs.
	Stop(ctx context.Context, id CaptureID) error
	// Watch calls fn at once and then every interval (at least a second) until
	// ctx ends or the link is lost, and returns why; nil means that the process
	// said goodbye. full asks for Metrics and Pools. fn must not block for longer than the interval.
	Watch(ctx context.Context, interval time.Duration, full bool, fn func(Sample)) error
}

// Sink takes what a Link collects. Calls come from one goroutine.
type Sink interface {
	// Progress is called about once a second.
	Progress(Progress)
	// Begin announces an artifact. Several may be open at once. An error ends
	// the collection: the archive is full or broken.
	Begin(Artifact) (ArtifactWriter, error)
}

// Progress is how far a window is on one instance.
type Progress struct {
	Elapsed, Duration time.Duration
	// Activity says what is going on, for people.
	Activity string
}

// CollectSummary is what the instance said when the window ended.
type CollectSummary struct {
	WindowStart, WindowEnd time.Time // on the centre's clock
	StoppedEarly           bool
	Losses                 []Loss
}

// ArtifactWriter receives one artifact, from its first byte to its last.
type ArtifactWriter interface {
	// Write appends. Exhausted when the disk reserve or the capture's size limit
	// is reached: what was written stays.
	io.Writer
	// Offset is the number of bytes written so far: where to resume.
	Offset() int64
	// Commit makes the artifact durable: it returns nil only after everything
	// written, and its row, survive a power cut. size and sha256 are the
	// sender's; a mismatch is Corrupt and leaves the artifact partial. final
	// carries what was not known at Begin (window, losses).
	Commit(size int64, sha256 []byte, final Artifact) error
	// Abort keeps what was written as a partial artifact with that loss; nothing
	// is kept of an empty one.
	Abort(Loss) error
}

// Catalogue keeps the rows of the archive: captures with their targets and
// artifacts, instances, and heartbeat history. Every method that changes
// something returns only after the change survives a power cut. Not-found is a
// NotFound error; a full disk is Exhausted; any other error is fail-stop.
// Implementations run the suite in opstest.
type Catalogue interface {
	// InsertCapture adds a capture with its targets. Conflict if the id exists.
	InsertCapture(ctx context.Context, c Capture) error
	// UpdateCapture writes State, Reason, Finished, Pinned and Imported.
	UpdateCapture(ctx context.Context, c Capture) error
	// UpdateTarget writes everything of a target but Instance and Artifacts.
	UpdateTarget(ctx context.Context, id CaptureID, t CaptureTarget) error
	// PutArtifact adds or replaces an artifact's row, with its store state.
	PutArtifact(ctx context.Context, ref ArtifactRef, a Artifact, s ArtifactState) error
	// DeleteArtifact removes the row.
	DeleteArtifact(ctx context.Context, ref ArtifactRef) error
	// Capture returns one with targets and its artifacts in every state but
	// ArtifactReceiving.
	Capture(ctx context.Context, id CaptureID) (Capture, error)
	// Captures returns matching ones, newest (largest id) first, with targets
	// and artifacts.
	Captures(ctx context.Context, f CaptureFilter) ([]Capture, error)
	// Unfinished returns the captures whose state has not ended, oldest first.
	Unfinished(ctx context.Context) ([]Capture, error)
	// ArtifactRows lists every artifact row of a capture with its state.
	ArtifactRows(ctx context.Context, id CaptureID) ([]ArtifactRow, error)
	// DeleteCapture removes a capture and everything below it.
	DeleteCapture(ctx context.Context, id CaptureID) error

	// PutFindings replaces what is said of a capture. NotFound if there is no such
	// capture.
	PutFindings(ctx context.Context, id CaptureID, f Findings) error
	// Findings returns what was put last; NotFound if nothing was.
	Findings(ctx context.Context, id CaptureID) (Findings, error)

	// PutInstance adds or replaces an instance's row: tombstones outlive a restart.
	PutInstance(ctx context.Context, i Instance) error
	// Instances returns the rows last seen since.
	Instances(ctx context.Context, since time.Time) ([]Instance, error)
	// DeleteInstances removes the rows last seen before.
	DeleteInstances(ctx context.Context, before time.Time) error

	// AppendHistory keeps heartbeats at that resolution: times to the
	// millisecond, fractions to six digits. Many points at once cost little more
	// than one.
	AppendHistory(ctx context.Context, points []HistoryPoint, step time.Duration) error
	// History returns an instance's points in [from, to) at that resolution, in order.
	History(ctx context.Context, id InstanceID, from, to time.Time, step time.Duration) ([]Heartbeat, error)
	// DeleteHistory removes points of that resolution from before a time.
	DeleteHistory(ctx context.Context, before time.Time, step time.Duration) error

	Close() error
}

// HistoryPoint is one heartbeat of one instance.
type HistoryPoint struct {
	Instance  InstanceID
	Heartbeat Heartbeat
}

// The resolutions of history and how long each is kept.
const (
	HistoryFineStep   = 10 * time.Second
	HistoryFineFor    = 24 * time.Hour
	HistoryCoarseStep = 5 * time.Minute
	HistoryCoarseFor  = 30 * 24 * time.Hour
)

// ArtifactState is where an artifact stands in the commit protocol.
type ArtifactState string

// The states: receiving → committing → done, or partial.
const (
	ArtifactReceiving  ArtifactState = "receiving"
	ArtifactCommitting ArtifactState = "committing"
	ArtifactDone       ArtifactState = "done"
	ArtifactPartial    ArtifactState = "partial"
)

// ArtifactRow is an artifact with its place and store state.
type ArtifactRow struct {
	Ref      ArtifactRef
	Artifact Artifact
	State    ArtifactState
}

// Blobs keeps the bytes of artifacts. A blob is first a part, which grows, and
// then final, which never changes. Implementations run the suite in opstest.
type Blobs interface {
	// Part opens the part of ref for appending, new or where it ended.
	Part(ctx context.Context, ref ArtifactRef) (Part, error)
	// Open opens the final blob, or else the part as it is now. NotFound if neither.
	Open(ctx context.Context, ref ArtifactRef) (Blob, error)
	// Final reports whether ref is final.
	Final(ctx context.Context, ref ArtifactRef) (bool, error)
	// Delete removes part and final blob of ref; no error if there is none.
	Delete(ctx context.Context, ref ArtifactRef) error
	// DeleteCapture removes everything of a capture.
	DeleteCapture(ctx context.Context, id CaptureID) error
	// List calls fn for every blob and part there is, in no order.
	List(ctx context.Context, fn func(ref ArtifactRef, final bool, sizeBytes int64) error) error
	// Quarantine moves what belongs to ref aside, never to be served, and says where to.
	Quarantine(ctx context.Context, ref ArtifactRef) (string, error)
	// Free returns the free bytes of the store; a negative number = unlimited.
	Free(ctx context.Context) (int64, error)
}

// Part is a blob that grows.
type Part interface {
	io.Writer
	// Size is the number of bytes it holds.
	Size() int64
	// Sync makes what was written survive a power cut. An error is fail-stop.
	Sync() error
	// Finalize turns the synced part into the final blob, atomically and durably,
	// and closes it.
	Finalize() error
	// Close keeps the part as it is.
	Close() error
}

// Blob is a blob to read.
type Blob interface {
	io.Reader
	io.ReaderAt
	io.Seeker
	io.Closer
	Size() int64
}
