package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/opscenter/opscenter/internal/ops"
)

// check looks at every key, fills the sections and lets them look at themselves.
func (f *File) check(s Schema) error {
	w := walker{file: f}
	settings, sections := map[string]Setting{}, map[string]Section{}
	var known []string
	for _, one := range s.Settings {
		settings[one.Key] = one
		known = append(known, one.Key)
	}
	for _, one := range s.Sections {
		sections[one.Key] = one
		known = append(known, one.Key)
	}
	for _, e := range f.entries {
		set, isSetting := settings[e.key]
		sec, isSection := sections[e.key]
		_, null := e.value.(*ast.NullNode)
		_, list := e.value.(*ast.SequenceNode)
		switch {
		case !isSetting && !isSection:
			w.add(e.name, "", "unknown key %q%s", e.key, hint(e.key, known))
		case null: // as if the key were not there
		case isSetting && e.values != nil && (set.List || !list):
		case isSection:
			before := len(w.problems)
			if w.walk(e.key, e.value, reflect.TypeOf(sec.Into).Elem(), false); len(w.problems) == before {
				w.fill(e.key, e.value, sec.Into)
			}
		case set.List:
			w.add(e.value, e.key, "must be a word or a list of words")
		default:
			w.add(e.value, e.key, "must be one word")
		}
	}
	if len(w.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(w.problems, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if more := len(w.problems) - maxProblems; more > 0 {
		w.problems = w.problems[:maxProblems]
		w.problems[maxProblems-1].Message += fmt.Sprintf(" (and %d more problems)", more)
	}
	return w.problems
}

func hint(word string, known []string) string {
	if near := Nearest(word, known); near != "" {
		return fmt.Sprintf(": did you mean %s?", near)
	}
	known = slices.Compact(slices.Sorted(slices.Values(known)))
	return ": known are " + strings.Join(known, ", ")
}

// walker compares what the file says with the types that it goes into.
type walker struct {
	file     *File
	problems Problems
}

func (w *walker) add(n ast.Node, key, format string, args ...any) {
	p := w.file.problem(n, key, format, args...)
	p.Message = w.file.hide(p.Message)
	w.problems = append(w.problems, p)
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	ownTypes     = []reflect.Type{ // decode themselves
		reflect.TypeFor[yaml.BytesUnmarshaler](), reflect.TypeFor[yaml.InterfaceUnmarshaler](), reflect.TypeFor[yaml.NodeUnmarshaler](),
	}
	textType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func decodesItself(t reflect.Type) bool {
	return slices.ContainsFunc(ownTypes, func(own reflect.Type) bool { return reflect.PointerTo(t).Implements(own) })
}

func (w *walker) walk(key string, n ast.Node, t reflect.Type, secret bool) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if _, null := n.(*ast.NullNode); null || decodesItself(t) {
		return
	}
	text, isScalar := scalar(n)
	shown := strconv.Quote(text)
	if secret {
		shown = "this"
	}
	if t == durationType {
		if _, err := time.ParseDuration(text); err != nil || !isScalar {
			w.add(n, key, "%s is no duration: use one such as 30s or 5m", cmp.Or(shown, "this"))
		}
		return
	}
	if reflect.PointerTo(t).Implements(textType) {
		if !isScalar {
			w.add(n, key, "must be one word, not %s", nodeWord(n))
		} else if err := reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			w.add(n, key, "%s", err)
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		w.walkStruct(key, n, t)
	case reflect.Map:
		m, ok := n.(ast.MapNode)
		if !ok {
			w.add(n, key, "must be a list of keys with values, not %s", nodeWord(n))
			return
		}
		for it := m.MapRange(); it.Next(); {
			w.walk(key+"."+keyText(it.Key()), it.Value(), t.Elem(), secret)
		}
	case reflect.Slice:
		s, ok := n.(*ast.SequenceNode)
		if !ok {
			w.add(n, key, "must be a list, not %s: begin each element with a hyphen", nodeWord(n))
			return
		}
		for i, v := range s.Values {
			w.walk(fmt.Sprintf("%s[%d]", key, i), v, t.Elem(), secret)
		}
	case reflect.String:
		if _, flag := n.(*ast.BoolNode); flag {
			w.add(n, key, "must be text, not true or false: put it in quotes")
		} else if _, isMap := n.(ast.MapNode); isMap {
			w.add(n, key, "must be text, not a list of keys: put it in quotes if it holds a colon")
		} else if !isScalar {
			w.add(n, key, "must be text, not %s", nodeWord(n))
		}
	case reflect.Bool:
		if _, ok := n.(*ast.BoolNode); !ok {
			w.add(n, key, "must be true or false, not %s", nodeWord(n))
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if _, ok := n.(*ast.IntegerNode); !ok {
			w.add(n, key, "must be a whole number, not %s", nodeWord(n))
		}
	case reflect.Float32, reflect.Float64:
		switch n.(type) {
		case *ast.IntegerNode, *ast.FloatNode:
		default:
			w.add(n, key, "must be a number, not %s", nodeWord(n))
		}
	}
}

func (w *walker) walkStruct(key string, n ast.Node, t reflect.Type) {
	m, ok := n.(ast.MapNode)
	if !ok {
		w.add(n, key, "must be a list of keys with values, not %s", nodeWord(n))
		return
	}
	all := fields(t)
	for it := m.MapRange(); it.Next(); {
		name := keyText(it.Key())
		i := slices.IndexFunc(all, func(f field) bool { return f.key == name })
		if i < 0 {
			var known []string
			for _, f := range all {
				known = append(known, f.key)
			}
			w.add(it.Key(), key, "unknown key %q%s", name, hint(name, known))
			continue
		}
		w.walk(key+"."+name, it.Value(), all[i].typ, all[i].secret)
	}
}

func nodeWord(n ast.Node) string {
	switch n.(type) {
	case ast.MapNode:
		return "a list of keys"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.BoolNode:
		return "true or false"
	case *ast.IntegerNode, *ast.FloatNode:
		return "a number"
	}
	return "this"
}

// field is a key of a struct.
type field struct {
	key    string
	typ    reflect.Type
	index  []int
	secret bool
}

func fields(t reflect.Type) (out []field) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if options == "inline" {
			for _, in := range fields(f.Type) {
				in.index = append([]int{i}, in.index...)
				out = append(out, in)
			}
			continue
		}
		name = cmp.Or(name, strings.ToLower(f.Name))
		out = append(out, field{name, f.Type, []int{i}, f.Tag.Get("secret") == "true" || soundsSecret(name)})
	}
	return out
}

// soundsSecret reports whether a key's name says that its value is nobody's
// business. Names of files are everybody's.
func soundsSecret(key string) bool {
	key = strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(key))
	if strings.HasSuffix(key, "file") || strings.HasSuffix(key, "path") {
		return false
	}
	return slices.ContainsFunc([]string{"password", "secret", "token", "credential", "apikey", "privatekey", "authorization"}, func(s string) bool { return strings.Contains(key, s) })
}

// fill decodes a section that walk found right, and lets it look at itself.
func (w *walker) fill(key string, n ast.Node, into any) {
	target := reflect.ValueOf(into).Elem()
	fresh := reflect.New(target.Type())
	fresh.Elem().Set(target) // what the file does not say stays as the caller had it
	if err := yaml.NodeToValue(n, fresh.Interface(), yaml.Strict()); err != nil {
		var p Problems
		errors.As(w.file.syntax(err), &p)
		for _, one := range p {
			one.Key, one.Message = key, w.file.hide(one.Message)
		}
		w.problems = append(w.problems, p...)
		return
	}
	before := len(w.problems)
	w.visit(key, n, fresh.Elem(), func(key string, n ast.Node, v any) {
		w.resolve(reflect.ValueOf(v).Elem())
		if r, ok := v.(interface{ ResolvePaths(func(string) string) }); ok {
			r.ResolvePaths(w.file.Abs)
		}
	})
	w.visit(key, n, fresh.Elem(), w.validate)
	if len(w.problems) == before {
		target.Set(fresh.Elem())
	}
}

// resolve makes the names of files absolute that a struct holds.
func (w *walker) resolve(v reflect.Value) {
	if v.Kind() != reflect.Struct || decodesItself(v.Type()) {
		return
	}
	for _, f := range fields(v.Type()) {
		name := strings.NewReplacer("-", "", "_", "").Replace(f.key)
		if s := v.FieldByIndex(f.index); s.Kind() == reflect.String && strings.HasSuffix(name, "file") {
			s.SetString(w.file.Abs(s.String()))
		}
	}
}

func (w *walker) validate(key string, n ast.Node, v any) {
	check, ok := v.(interface{ Validate() error })
	if !ok {
		return
	}
	err := check.Validate()
	if err == nil {
		return
	}
	message := err.Error()
	if m, ok := n.(ast.MapNode); ok {
		for it := m.MapRange(); it.Next(); {
			name := keyText(it.Key())
			if rest, ok := strings.CutPrefix(message, name); ok && (strings.HasPrefix(rest, ": ") || strings.HasPrefix(rest, " ")) {
				w.add(it.Value(), key+"."+name, "%s", strings.TrimPrefix(strings.TrimPrefix(rest, ":"), " "))
				return
			}
		}
	}
	w.add(n, key, "%s", message)
}

// visit calls fn with a pointer to every struct, element and value of a section
// that the file speaks of, inner ones first.
func (w *walker) visit(key string, n ast.Node, v reflect.Value, fn func(string, ast.Node, any)) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	if _, null := n.(*ast.NullNode); null {
		return
	}
	switch m, isMap := n.(ast.MapNode); {
	case decodesItself(v.Type()):
	case v.Kind() == reflect.Struct && isMap:
		all := fields(v.Type())
		for it := m.MapRange(); it.Next(); {
			name := keyText(it.Key())
			if i := slices.IndexFunc(all, func(f field) bool { return f.key == name }); i >= 0 {
				w.visit(key+"."+name, it.Value(), v.FieldByIndex(all[i].index), fn)
			}
		}
	case v.Kind() == reflect.Map && isMap && v.Type().Key().Kind() == reflect.String:
		for it := m.MapRange(); it.Next(); {
			name := reflect.ValueOf(keyText(it.Key())).Convert(v.Type().Key())
			if value := v.MapIndex(name); value.IsValid() { // not addressable: a copy goes back
				c := reflect.New(value.Type()).Elem()
				c.Set(value)
				w.visit(key+"."+keyText(it.Key()), it.Value(), c, fn)
				v.SetMapIndex(name, c)
			}
		}
	case v.Kind() == reflect.Slice:
		if s, ok := n.(*ast.SequenceNode); ok {
			for i := range min(len(s.Values), v.Len()) {
				w.visit(fmt.Sprintf("%s[%d]", key, i), s.Values[i], v.Index(i), fn)
			}
		}
	}
	if v.CanAddr() {
		fn(key, n, v.Addr().Interface())
	}
}

// Nearest is the known word that somebody who wrote word may have meant; "" =
// none is near.
func Nearest(word string, known []string) string {
	if len(word) > 64 { // no key of ours is half as long
		return ""
	}
	best, dist := "", max(min(2, len(word)/2), len(word)/3)+1 // two letters that changed places are two apart
	for _, k := range known {
		if d := ops.EditDistance(strings.ToLower(word), strings.ToLower(k)); d < dist {
			best, dist = k, d
		}
	}
	if best == "" && len(word) >= 3 {
		for _, k := range known {
			if strings.HasPrefix(k, word) || strings.HasPrefix(word, k) {
				return k
			}
		}
	}
	return best
}
