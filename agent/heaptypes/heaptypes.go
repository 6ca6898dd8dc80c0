// Package heaptypes names the Go type of what an allocation site allocates, by
// reading the machine code before the call of the allocator: the compiler puts
// the address of the type's descriptor into a register there. It needs no
// symbols, no debug information and no help of the runtime, and stops nothing.
//
// [Collect] does it for every site of the process's own heap profile and returns
// a [Table], which lies beside that profile and is joined with it by address.
// [Resolver] does it for any [Image], such as an executable file.
//
// It is a guest in other people's processes: every address is checked against
// the program's own mappings before it is read, nothing is believed that does
// not look like a type descriptor, and what cannot be known is left out and
// counted. It must know nothing of agents and centres, and imports the standard
// library alone.
package heaptypes

import "time"

// Schema is what a Table says it is.
const Schema = "opscenter.heaptypes/v1"

// FileName is what a Table is called in a capture.
const FileName = "heap-types.json"

// Form says what a site's objects are to the type that was found.
type Form string

// The forms. They keep their meaning for ever.
const (
	FormNew       Form = "new"       // an object is one value of the type
	FormSlice     Form = "slice"     // an object is a backing array; the type is that of an element
	FormMap       Form = "map"       // an object is a part of a map; the type is the map's
	FormChan      Form = "chan"      // an object is a channel with its buffer; the type is the channel's
	FormInterface Form = "interface" // an object is one value of the type, kept in an interface
	FormString    Form = "string"    // an object is the bytes of a string
	FormBytes     Form = "bytes"     // an object is the backing array of a byte slice, or other data without pointers
	FormClosure   Form = "closure"   // an object is a function value with what it captured
	FormRuntime   Form = "runtime"   // an object is the runtime's own
)

// Confidence says how a type is known.
type Confidence string

// The confidences. They keep their meaning for ever.
const (
	Exact   Confidence = "exact"   // the descriptor that the code hands to the allocator
	Implied Confidence = "implied" // the allocator makes nothing else
	Caller  Confidence = "caller"  // a generic function's type, with the arguments that its caller hands in
	Shape   Confidence = "shape"   // a generic function's type, of whose arguments only the shape is known
	Flow    Confidence = "flow"    // followed through registers and the stack, over at least one branch
)

// Table is heap-types.json. Its fields keep their meaning for ever.
type Table struct {
	Schema string    `json:"schema"`
	Taken  time.Time `json:"taken"`
	Build  Build     `json:"build"`
	// TextStart is where the code was mapped, which tells two processes of one
	// position-independent build apart.
	TextStart Address `json:"text_start"`
	// Records is how many stacks the profile had.
	Records int `json:"records"`
	// Sites are in the order of their addresses.
	Sites []Site `json:"sites"`
	// Types are what Sites and Types themselves refer to by their place.
	Types      []Type       `json:"types"`
	Unresolved []Unresolved `json:"unresolved"`
	Losses     []string     `json:"losses"`
}

// Build says which program it was.
type Build struct {
	GoVersion string `json:"go_version"`
	GOOS      string `json:"goos"`
	GOARCH    string `json:"goarch"`
	BuildID   string `json:"build_id"`
}

// Site is an allocation site and what it allocates.
type Site struct {
	// Address is that of the leaf location in the heap profile.
	Address Address `json:"address"`
	// Callers are those of the locations above it, where the type depends on who
	// called; usually none.
	Callers    []Address  `json:"callers,omitempty"`
	Type       int        `json:"type"`
	Form       Form       `json:"form"`
	Confidence Confidence `json:"confidence"`
}

// Type is a Go type.
type Type struct {
	// Name has import paths: "map[string]*example.com/game/session.Session".
	Name string `json:"name"`
	// Kind is as package reflect prints it; "" if only the size is known.
	Kind string `json:"kind,omitempty"`
	Size int64  `json:"size"`
	// Shape is set if the name has placeholders for a generic type's arguments:
	// "*?" is any pointer and "~int" any type whose underlying type is int.
	Shape bool `json:"shape,omitempty"`
	// Elem and Key are places in Table.Types: what a pointer points to, what a
	// slice, array, map or channel holds.
	Elem *int `json:"elem,omitempty"`
	Key  *int `json:"key,omitempty"`
	// Fields are the places of the types of a struct's fields that can hold
	// others; each once.
	Fields []int `json:"fields,omitempty"`
}

// Unresolved counts the sites of which no type is known, by reason.
type Unresolved struct {
	Reason string `json:"reason"`
	Sites  int    `json:"sites"`
}
