package ops

import (
	"context"
	"encoding/json"
	"time"
)

// CallRecord is a gRPC call that somebody made from the console, for them to
// find again. It is no proof: what changed something is in the audit record.
type CallRecord struct {
	ID        string // sorts by time
	At        time.Time
	Actor     string
	Project   ProjectName
	Service   ServiceName
	Instances []InstanceID
	Method    string // package.Service/Method
	// Request is what was asked, as the console keeps it; secrets are masked.
	Request  json.RawMessage
	Mutating bool
	// Code is the status' name, "OK", or "" when the call was not made; of several
	// instances the worst. Message is what it said.
	Code     string
	Message  string
	Duration time.Duration
	Sent     int
	Received int
}

// SavedCall is a request that was kept under a name, for everybody who may call.
type SavedCall struct {
	ID      string
	Name    string
	At      time.Time
	Actor   string
	Project ProjectName
	Service ServiceName
	Method  string
	Request json.RawMessage
}

// DescriptorSet is what was uploaded for a service that does not describe itself.
type DescriptorSet struct {
	Project ProjectName
	Service ServiceName
	Name    string // of the file
	At      time.Time
	Actor   string
	Body    []byte // a google.protobuf.FileDescriptorSet; empty in lists
}

// CallFilter selects calls; zero fields match all.
type CallFilter struct {
	Project ProjectName
	Service ServiceName
	Method  string
	Actor   string
	Before  string // only records with a smaller id: the next page
	Limit   int    // 0 = 50, at most 500
}

// CallBook keeps what the console remembers. Methods may be called concurrently.
type CallBook interface {
	// AddCalls adds records and forgets the oldest beyond the last 10,000.
	AddCalls(ctx context.Context, records []CallRecord) error
	// Calls returns matching records, newest first.
	Calls(ctx context.Context, f CallFilter) ([]CallRecord, error)
	// SaveCall adds one; Exhausted beyond 1,000 of them.
	SaveCall(ctx context.Context, s SavedCall) error
	// SavedCalls returns those of a service, by name; empty names match all.
	SavedCalls(ctx context.Context, p ProjectName, s ServiceName) ([]SavedCall, error)
	// DeleteSavedCall removes one; NotFound if there is none.
	DeleteSavedCall(ctx context.Context, id string) error
	// PutDescriptors adds or replaces the set of a service.
	PutDescriptors(ctx context.Context, d DescriptorSet) error
	// Descriptors returns the set of a service; NotFound if there is none.
	Descriptors(ctx context.Context, p ProjectName, s ServiceName) (DescriptorSet, error)
	// ListDescriptors returns all sets without their bodies.
	ListDescriptors(ctx context.Context) ([]DescriptorSet, error)
	// DeleteDescriptors removes a set; NotFound if there is none.
	DeleteDescriptors(ctx context.Context, p ProjectName, s ServiceName) error
}
