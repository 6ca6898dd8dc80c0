// Package heaptypes says which Go types the live objects of a heap profile have:
// how many of each, how many bytes, how sure that is, who allocated them and
// which maps, slices and structs hold them. The types come from heap-types.json,
// which an agent writes, or from the program's executable, stripped or not. It
// takes any bytes within limits and never panics; it knows nothing of where they
// come from or of what is wrong with a program.
package heaptypes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	guest "github.com/opscenter/opscenter/agent/heaptypes"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// Limits bound what a table may cost its reader. The zero value means the
// defaults.
type Limits struct {
	// Bytes is how large the file may be; 0 = 32 MiB, several times what the
	// agent's own limits allow it to write.
	Bytes int64
	// Sites and Types are how many it may hold; 0 = 200,000 each.
	Sites, Types int
}

// What one entry may hold at most; the agent writes less.
const (
	maxName       = 4096
	maxCallers    = 8
	maxFields     = 256
	maxUnresolved = 1000
	maxLosses     = 1000
)

func (l Limits) withDefaults() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 32 << 20
	}
	if l.Sites <= 0 {
		l.Sites = 200_000
	}
	if l.Types <= 0 {
		l.Types = 200_000
	}
	return l
}

// Table is what allocation sites allocate, by address. It is not changed by
// anything that reads it.
type Table struct {
	guest.Table
	byAddress map[guest.Address][]int // places in Sites, those with most callers first
}

// Read reads heap-types.json. Corrupt when it is none or contradicts itself,
// Exhausted when it passes a limit, Invalid when it is of a version that this
// program does not know.
func Read(r io.Reader, lim Limits) (*Table, error) {
	lim = lim.withDefaults()
	raw, err := profile.Decompress(r, profile.Limits{CompressedBytes: lim.Bytes, DecompressedBytes: lim.Bytes})
	if err != nil {
		return nil, fmt.Errorf("heap types: %w", err)
	}
	t, err := decode(raw, lim)
	if err != nil {
		return nil, err
	}
	return index(t)
}

// decode goes through the file entry by entry, so that a limit holds before
// there is anything to hold.
func decode(raw []byte, lim Limits) (guest.Table, error) {
	var t guest.Table
	d := json.NewDecoder(bytes.NewReader(raw))
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return t, corrupt("it does not begin as a JSON object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return t, corrupt("%v", err)
		}
		switch key {
		case "schema":
			err = d.Decode(&t.Schema)
		case "taken":
			err = d.Decode(&t.Taken)
		case "build":
			err = d.Decode(&t.Build)
		case "text_start":
			err = d.Decode(&t.TextStart)
		case "records":
			err = d.Decode(&t.Records)
		case "sites":
			t.Sites, err = list[guest.Site](d, "sites", lim.Sites)
		case "types":
			t.Types, err = list[guest.Type](d, "types", lim.Types)
		case "unresolved":
			t.Unresolved, err = list[guest.Unresolved](d, "reasons", maxUnresolved)
		case "losses":
			t.Losses, err = list[string](d, "losses", maxLosses)
		default:
			err = skip(d)
		}
		if err != nil {
			var known *ops.Error
			if errors.As(err, &known) {
				return t, err
			}
			return t, corrupt("%v: %v", key, err)
		}
	}
	if _, err := d.Token(); err != nil {
		return t, corrupt("it ends within its object")
	}
	if t.Schema != guest.Schema {
		return t, ops.Errorf(ops.Invalid, "heap types of schema %.60q are not known to this version: it reads %s; use a newer version of this program", t.Schema, guest.Schema)
	}
	return t, nil
}

// list decodes an array of at most limit entries.
func list[T any](d *json.Decoder, what string, limit int) ([]T, error) {
	tok, err := d.Token()
	if err != nil {
		return nil, err
	}
	if tok == nil {
		return nil, nil
	}
	if tok != json.Delim('[') {
		return nil, errors.New("it is no list")
	}
	var out []T
	for d.More() {
		if len(out) == limit {
			return nil, ops.Errorf(ops.Exhausted, "heap types: more than %d %s: raise the limit, or take the table again with fewer", limit, what)
		}
		var v T
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	_, err = d.Token()
	return out, err
}

// skip passes over a value of any depth without keeping it.
func skip(d *json.Decoder) error {
	depth := 0
	for {
		tok, err := d.Token()
		if err != nil {
			return err
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

// index checks that a table refers to nothing that it does not have.
func index(t guest.Table) (*Table, error) {
	known := func(i int) bool { return i >= 0 && i < len(t.Types) }
	for i, typ := range t.Types {
		if typ.Name == "" || len(typ.Name) > maxName || !utf8.ValidString(typ.Name) || typ.Size < 0 {
			return nil, corrupt("type %d has no proper name or size", i)
		}
		if typ.Elem != nil && !known(*typ.Elem) || typ.Key != nil && !known(*typ.Key) {
			return nil, corrupt("type %d refers to one that is not there", i)
		}
		if len(typ.Fields) > maxFields {
			return nil, corrupt("type %d has more than %d fields", i, maxFields)
		}
		for _, f := range typ.Fields {
			if !known(f) {
				return nil, corrupt("type %d has a field of a type that is not there", i)
			}
		}
	}
	out := &Table{Table: t, byAddress: make(map[guest.Address][]int, len(t.Sites))}
	for i, s := range t.Sites {
		if !known(s.Type) {
			return nil, corrupt("site %d has type %d, which is not there", i, s.Type)
		}
		if !knownForms[s.Form] {
			return nil, corrupt("site %d has the unknown form %.20q", i, s.Form)
		}
		if len(s.Callers) > maxCallers {
			return nil, corrupt("site %d has more than %d callers", i, maxCallers)
		}
		at := out.byAddress[s.Address]
		at = append(at, i)
		for k := len(at) - 1; k > 0 && len(t.Sites[at[k-1]].Callers) < len(s.Callers); k-- {
			at[k-1], at[k] = at[k], at[k-1]
		}
		out.byAddress[s.Address] = at
	}
	return out, nil
}

var knownForms = map[guest.Form]bool{
	guest.FormNew: true, guest.FormSlice: true, guest.FormMap: true, guest.FormChan: true, guest.FormInterface: true,
	guest.FormString: true, guest.FormBytes: true, guest.FormClosure: true, guest.FormRuntime: true,
}

func corrupt(format string, args ...any) error {
	return ops.Errorf(ops.Corrupt, "not heap types as an agent writes them: "+format+"; capture again", args...)
}
