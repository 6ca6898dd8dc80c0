// Package audit keeps the record of what people did: the intent, durably, before
// an action runs, and its outcome after. An action whose intent cannot be
// recorded does not run. Every row's hash covers the row before it, so that a
// row which was edited, dropped or moved shows.
//
// It knows nothing of what the actions do, nor of who may do them, and leaves
// the file to a Store.
package audit

import (
	"context"
	"encoding/json"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// ID names an action in the record. Ids sort by time.
type ID string

// Intent is what somebody is about to do. Everything in it is shown to whoever
// may see the record; secrets in Reason and Request are masked before they are
// kept.
type Intent struct {
	// Actor is who does it, as auth names them: "local:ann".
	Actor string `json:"actor"`
	// Action is the verb, dotted: "control.run", "grpc.call", "capture.start".
	Action string `json:"action"`
	// Subject is what the verb is about: a control's name, a method's full name, a
	// capture's id.
	Subject   string           `json:"subject"`
	Project   ops.ProjectName  `json:"project,omitempty"`
	Service   ops.ServiceName  `json:"service,omitempty"`
	Instances []ops.InstanceID `json:"instances,omitempty"`
	// Reason is why, in the actor's words.
	Reason   string `json:"reason,omitempty"`
	Mutating bool   `json:"mutating"`
	DryRun   bool   `json:"dry_run,omitempty"`
	// Key makes a repetition harmless: the second action of the same actor with
	// the same key is not run, it gets the answer of the first. Empty = none.
	Key string `json:"key,omitempty"`
	// Request is what was asked for, as JSON; nil = nothing more than the above.
	// With Action, Subject, Project, Service and DryRun it is what tells the same
	// request from another one under its key; Instances do not, for the fleet may
	// have changed between a request and its repetition.
	Request json.RawMessage `json:"request,omitempty"`
	// Private is what of the request must not be kept, such as a secret argument. It
	// takes part in telling requests apart and is then forgotten.
	Private string `json:"-"`
	// FreesSpace: the action makes room on the disk, so a full one must not keep it
	// from being recorded; see Config.Room.
	FreesSpace bool `json:"-"`
}

// Result is how an action ended.
type Result string

// The results.
const (
	Succeeded Result = "ok"
	Failed    Result = "failed"
	Partial   Result = "partial" // on some instances
	Refused   Result = "refused" // a guard rail said no; nothing was run
	Cancelled Result = "cancelled"
	Skipped   Result = "skipped" // of one instance: the action stopped before it
	// Unknown: the centre ended between intent and outcome. The action may have
	// run, in part or whole.
	Unknown Result = "unknown"
	// Running: it has no outcome yet. It is never recorded.
	Running Result = "running"
)

// Outcome is what became of an action.
type Outcome struct {
	Result Result `json:"result"`
	// Message says in words what happened, above all what went wrong.
	Message string `json:"message,omitempty"`
	// Answer is what the actor was answered, as JSON, for a repetition under the
	// same key to be answered with. Secrets in it are masked, and what is longer
	// than MaxAnswerBytes is not kept (AnswerLost).
	Answer     json.RawMessage `json:"answer,omitempty"`
	AnswerLost bool            `json:"answer_lost,omitempty"`
}

// Step is what became of an action on one of its instances.
type Step struct {
	Instance ops.InstanceID `json:"instance"`
	Result   Result         `json:"result"`
	Message  string         `json:"message,omitempty"`
}

// The bounds of a row. What is longer is cut, and says so.
const (
	MaxReasonBytes  = 1000
	MaxRequestBytes = 16 << 10
	MaxAnswerBytes  = 64 << 10
	MaxMessageBytes = 2000
	MaxKeyBytes     = 128
)

// Recorder is the record as those see it who are about to act.
type Recorder interface {
	// Begin records the intent and returns when it would survive a power cut. After
	// an error the action must not run: Exhausted when the disk is full, Invalid
	// when the intent cannot be right, Conflict when its key was used for another
	// request or for one whose outcome is unknown.
	//
	// When the key was used for the same request, Begin waits for that one to end
	// and returns it with First set: the caller answers with it and does nothing.
	Begin(ctx context.Context, in Intent) (Action, error)
	// Repeated returns what Begin would for a key that was used, and nil for one
	// that was not, without recording anything. Whoever checks an intent against
	// the present asks first: what was done once must not be judged again.
	Repeated(ctx context.Context, in Intent) (Action, error)
}

// Action is an action whose intent is recorded. Its caller ends it exactly once,
// however it goes; ending one with First set does nothing. Its methods are safe
// for concurrent use, and a caller whose own context has ended passes one that
// has not: what was done has to be written down.
type Action interface {
	ID() ID
	// First is the outcome of the action that had the same key, and its steps; nil
	// when this one is the first and has to be run.
	First() (*Outcome, []Step)
	// Step records what became of it on one instance. An error means that the rest
	// must not run: it could not be recorded.
	Step(ctx context.Context, s Step) error
	// End records the outcome.
	End(ctx context.Context, o Outcome) error
}

// Entry is an action as the record tells it.
type Entry struct {
	// Seq is the number of the intent's row, counting from 1; Hash is that row's.
	Seq  int64
	Hash string
	ID   ID
	At   time.Time
	Intent
	Steps []Step
	// Outcome's Result is Running while there is none.
	Outcome Outcome
	Ended   time.Time // zero while it runs
}

// Filter selects entries; zero fields match all.
type Filter struct {
	ID      ID
	Actor   string
	Action  string // the verb, or its beginning up to a dot: "control" finds "control.run"
	Subject string
	Project ops.ProjectName
	Service ops.ServiceName
	// Target is an instance's id, a service's name or a subject: whatever an action
	// was aimed at.
	Target   string
	Results  []Result
	Mutating bool // only those that change something
	// Text is looked for in everything an intent or outcome says, without regard
	// for the case of ASCII letters.
	Text     string
	From, To time.Time // To is exclusive
	// Before selects entries with a smaller Seq: the next page.
	Before int64
	Limit  int // 0 = 50, at most 500
}

// Head is where the record ends.
type Head struct {
	Rows int64  `json:"rows"`
	Hash string `json:"hash"` // of the last row, lower-case hex
}

// Report is what Verify found.
type Report struct {
	// Head is where the rows end; Anchor what the second place says of it.
	Head, Anchor Head
	// Problems say in words what is not as it was written, at most MaxProblems of
	// them; More counts the rest. None = intact.
	Problems []Problem
	More     int
}

// MaxProblems bounds a Report.
const MaxProblems = 20

// Problem is one thing that is not as it was written.
type Problem struct {
	Seq  int64  // the row; 0 = the record as a whole
	Text string // for people
}
