package config

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// leaves lists what the file says in a section, one value a word.
func (f *File) leaves(sec Section) (out []Value) {
	for _, e := range f.entries {
		if e.key != sec.Key {
			continue
		}
		if _, isMap := e.value.(ast.MapNode); !isMap {
			if _, isList := e.value.(*ast.SequenceNode); !isList {
				continue // nothing, or the setting of the same name
			}
		}
		f.leaf(e.key, e.value, reflect.TypeOf(sec.Into), false, func(v Value) {
			v.Restart = sec.Restart
			out = append(out, v)
		})
	}
	return out
}

func (f *File) leaf(key string, n ast.Node, t reflect.Type, secret bool, add func(Value)) {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var elem reflect.Type
	if t != nil && (t.Kind() == reflect.Map || t.Kind() == reflect.Slice) {
		elem = t.Elem()
	}
	switch n := n.(type) {
	case ast.MapNode:
		var all []field
		if t != nil && t.Kind() == reflect.Struct {
			all = fields(t)
		}
		empty := true
		for it := n.MapRange(); it.Next(); {
			empty = false
			name, inner, hidden := keyText(it.Key()), elem, secret || soundsSecret(keyText(it.Key()))
			if i := slices.IndexFunc(all, func(f field) bool { return f.key == name }); i >= 0 {
				inner, hidden = all[i].typ, secret || all[i].secret
			}
			f.leaf(key+"."+name, it.Value(), inner, hidden, add)
		}
		if empty {
			add(Value{Key: key, Text: "{}", Origin: FromFile})
		}
	case *ast.SequenceNode:
		for i, v := range n.Values {
			f.leaf(fmt.Sprintf("%s[%d]", key, i), v, elem, secret, add)
		}
		if len(n.Values) == 0 {
			add(Value{Key: key, Text: "[]", Origin: FromFile, Where: f.at(n)})
		}
	default:
		text, ok := scalar(n)
		if !ok {
			return
		}
		v := Value{Key: key, Text: withoutPassword(text), Origin: FromFile, Where: f.at(n), raw: text}
		if source, expanded := f.expanded[n]; expanded {
			v.Text = source
		} else if secret {
			v.Text = masked
		}
		add(v)
	}
}

// withoutPassword takes the password out of a URL.
func withoutPassword(text string) string {
	if !strings.Contains(text, "://") || !strings.Contains(text, "@") {
		return text
	}
	u, err := url.Parse(text)
	if err != nil {
		return masked // what it hides cannot be told
	}
	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), "xxxxx")
	}
	return u.String()
}

// Example is a configuration to start from: every setting with its default and
// every section with an example, all commented out.
func (s Schema) Example() string {
	var b strings.Builder
	b.WriteString(`# The configuration of an OPS Center. Every key is optional; what is commented
# out shows the default or an example. A flag of the same name, or OPS_ and the name
# in capitals in the environment, beats this file.
#
# ${env:NAME} and ${file:/path} stand for what is in the environment or in a file:
# use them for secrets, which then are never shown.
#
# Check it with ` + "`ops config check`" + `; the running centre takes changes by itself.
`)
	for _, set := range s.Settings {
		b.WriteString("\n")
		about := set.About
		if set.Restart {
			about += " (from the next start on)"
		}
		comment(&b, about)
		value := set.Default
		if set.List {
			value = "[]"
		}
		// Nothing is the default of whatever it may be: "" is no size.
		b.WriteString(strings.TrimRight("#"+set.Key+": "+value, " ") + "\n")
	}
	for _, sec := range s.Sections {
		b.WriteString("\n")
		comment(&b, sec.About)
		for line := range strings.Lines(strings.TrimSpace(sec.Example) + "\n") {
			b.WriteString("#" + line)
		}
	}
	return b.String()
}

// comment writes text in lines of at most 90 bytes.
func comment(b *strings.Builder, text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) >= 90 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
