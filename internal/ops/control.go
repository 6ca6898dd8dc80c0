package ops

import (
	"context"
	"encoding/json"
	"time"
)

// Controllable is what a Link also is when its instance may offer controls. All
// methods may be called concurrently.
type Controllable interface {
	// Controls lists what the instance offers, with the values that hold now.
	// Conflict when its agent is too old for controls, Denied where the process
	// wants none, Unavailable when it is away.
	Controls(ctx context.Context) ([]Control, error)
	// Control runs one and waits for it. That the control itself did not work is in
	// the answer. An error of the kinds Invalid, NotFound, Conflict and Denied means
	// that it was not run; after any other it may have been, or may still run.
	Control(ctx context.Context, c ControlCall) (ControlAnswer, error)
}

// Control is something of an instance that can be looked up or changed.
type Control struct {
	Name, Description string
	Builtin           bool // of every agent, not of the service
	Mutating          bool
	Params            []ControlParam
	// Effect and Undo say what it does and how it is undone, for people.
	Effect, Undo string
	// Setting controls have a value, take a time to live and can be reverted.
	Setting bool
	// Value holds now; SetTo is what a control set and Original what was there
	// before any did, both empty where none did.
	Value, SetTo, Original string
	RevertsAt              time.Time // on the instance's clock; zero = it does not
	DryRun                 bool      // it can say what it would do
	Unavailable            string    // why it cannot be used; empty = it can
	Timeout                time.Duration
}

// ControlParam is a parameter of a control. Arguments are text.
type ControlParam struct {
	Name, Description string
	Type              ParamType
	Required          bool
	Default, Min, Max string   // in the form of the type; empty = none
	Choices           []string // of an enum, or words beside the type's own form
	Secret            bool
}

// ParamType is how an argument's text is read.
type ParamType string

// The types of parameters.
const (
	ParamString   ParamType = "string"
	ParamInt      ParamType = "int"
	ParamFloat    ParamType = "float"
	ParamBool     ParamType = "bool"
	ParamDuration ParamType = "duration" // "1m30s"
	ParamSize     ParamType = "size"     // "512MiB"
	ParamEnum     ParamType = "enum"
)

// ControlCall is one run of a control.
type ControlCall struct {
	Name    string
	Args    map[string]string
	TTL     time.Duration // of a setting: it goes back after so long; 0 = it stays
	Revert  bool          // of a setting: put back what was there before any control
	DryRun  bool
	Timeout time.Duration // 0 = the control's own
	Actor   string        // for the log of the process
}

// ControlAnswer is how a run went.
type ControlAnswer struct {
	Result json.RawMessage // what it answered; nil = nothing
	Error  string          // the control says that it did not work; empty = it did
	// Message says in words what happened, or would.
	Message       string
	Before, After string    // of a setting
	RevertsAt     time.Time // on the instance's clock
	Took          time.Duration
}
