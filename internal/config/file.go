package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// File is a configuration file: YAML whose references are resolved and whose
// keys nobody has looked at yet.
type File struct {
	Name string
	Sum  Sum // of what was read
	// Reads lists the files that references named.
	Reads []string

	entries []entry
	// expanded are the nodes that held references, with what the file says.
	expanded map[ast.Node]string
	secrets  []string // what references gave
	problems Problems
}

// entry is one top-level key.
type entry struct {
	key   string
	name  ast.Node
	value ast.Node
	// values are the scalars, of one or of a list; nil for everything else.
	values []string
	secret bool   // one of them came out of a reference
	source string // what the file says, references unresolved
}

const (
	// maxProblems is as many as a person reads before the next try.
	maxProblems = 20
	// maxDepth is of nested brackets: a parser that recurses must not meet more.
	maxDepth = 64
)

// Parse reads the text of a file. It resolves references; getenv nil means that
// the environment is empty.
func Parse(name string, text []byte, getenv func(string) string) (*File, error) {
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	f := &File{Name: name, expanded: map[ast.Node]string{}}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	depth := 0
	for _, tk := range lexer.Tokenize(string(text)) {
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			depth++
		case token.MappingEndType, token.SequenceEndType:
			depth--
		case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType:
			return nil, Problems{f.problemAt(tk, "", "anchors, aliases and tags are not understood here: write the value out")}
		case token.InvalidType:
			return nil, Problems{f.problemAt(tk, "", "this is no YAML: %s", tk.Error)}
		}
		if depth > maxDepth {
			return nil, Problems{f.problemAt(tk, "", "brackets are nested more than %d deep", maxDepth)}
		}
	}
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, f.syntax(err)
	}
	var body ast.Node
	for _, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			return nil, Problems{f.problem(doc.Body, "", "a second document begins here: a configuration is one")}
		}
		body = doc.Body
	}
	if body == nil {
		return f, nil
	}
	top, ok := body.(ast.MapNode)
	if !ok {
		return nil, Problems{f.problem(body, "", "the file must be a list of keys, such as `listen: 127.0.0.1:8080`")}
	}
	for it := top.MapRange(); it.Next(); {
		f.expand(it.Value(), getenv)
		f.entries = append(f.entries, f.entry(it.Key(), it.Value()))
	}
	if len(f.problems) > 0 {
		return nil, f.problems
	}
	return f, nil
}

func (f *File) entry(key ast.MapKeyNode, value ast.Node) entry {
	e := entry{key: keyText(key), name: key, value: value}
	add := func(n ast.Node) bool {
		text, ok := scalar(n)
		source, expanded := f.expanded[n]
		if !expanded {
			source = text
		}
		if e.source != "" {
			e.source += ", "
		}
		e.source += source
		e.secret = e.secret || expanded
		e.values = append(e.values, text)
		return ok
	}
	switch n := value.(type) {
	case *ast.SequenceNode:
		e.values = []string{}
		for _, v := range n.Values {
			if !add(v) {
				e.values = nil
				break
			}
		}
	case *ast.NullNode:
	default:
		if !add(n) {
			e.values = nil
		}
	}
	return e
}

// setting returns the entry of a key that says one or several words.
func (f *File) setting(key string) *entry {
	for i := range f.entries {
		if e := &f.entries[i]; e.key == key && e.values != nil {
			return e
		}
	}
	return nil
}

func keyText(key ast.MapKeyNode) string {
	if s, ok := key.(*ast.StringNode); ok {
		return s.Value
	}
	return key.GetToken().Value
}

// scalar is the text of a node that is one word.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

var reference = regexp.MustCompile(`\$\{([^}]*)\}`)

// expand resolves the references in all strings below a node.
func (f *File) expand(n ast.Node, getenv func(string) string) {
	var value *string
	switch n := n.(type) {
	case ast.MapNode:
		for it := n.MapRange(); it.Next(); {
			f.expand(it.Value(), getenv)
		}
		return
	case *ast.SequenceNode:
		for _, v := range n.Values {
			f.expand(v, getenv)
		}
		return
	case *ast.StringNode:
		value = &n.Value
	case *ast.LiteralNode:
		value = &n.Value.Value
	default:
		return
	}
	if !strings.Contains(*value, "${") {
		return
	}
	source := *value
	*value = reference.ReplaceAllStringFunc(source, func(ref string) string {
		text, err := f.resolve(ref[2:len(ref)-1], getenv)
		if err != nil {
			f.problems = append(f.problems, f.problem(n, "", "%s: %s", ref, err))
		}
		return text
	})
	f.expanded[n] = source
}

// maxSecret is far above a token or a key in a file of its own.
const maxSecret = 64 << 10

func (f *File) resolve(ref string, getenv func(string) string) (string, error) {
	kind, name, ok := strings.Cut(ref, ":")
	var text string
	switch {
	case ok && kind == "env" && name != "":
		if text = getenv(name); text == "" {
			return "", errors.New("the environment has no such variable: set it, or take the reference out")
		}
	case ok && kind == "file" && name != "":
		path := f.Abs(name)
		f.Reads = append(f.Reads, path)
		b, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if len(b) > maxSecret {
			return "", fmt.Errorf("the file is larger than %d KiB", maxSecret>>10)
		}
		text = strings.TrimRight(string(b), "\r\n")
	default:
		return "", errors.New("a reference is ${env:NAME} or ${file:/path}")
	}
	if !slices.Contains(f.secrets, text) {
		f.secrets = append(f.secrets, text)
	}
	return text, nil
}

// hide takes what references gave out of a message.
func (f *File) hide(message string) string {
	for _, s := range f.secrets {
		if len(s) >= 4 { // shorter ones are in every other word
			message = strings.ReplaceAll(message, s, masked)
		}
	}
	return message
}

const masked = "••••••"

func (f *File) syntax(err error) error {
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		message := at.GetMessage()
		if key, _, ok := strings.Cut(strings.TrimPrefix(message, "mapping key "), " already defined at "); ok && strings.HasPrefix(message, "mapping key ") {
			message = "the key " + key + " is here twice: keep one of them"
		}
		return Problems{f.problemAt(at.GetToken(), "", "%s", message)}
	}
	return Problems{{File: f.Name, Line: 1, Column: 1, Message: err.Error()}}
}

func (f *File) problem(n ast.Node, key, format string, args ...any) *Problem {
	return f.problemAt(start(n), key, format, args...)
}

func (f *File) problemAt(tk *token.Token, key, format string, args ...any) *Problem {
	p := &Problem{File: f.Name, Line: 1, Column: 1, Key: key, Message: fmt.Sprintf(format, args...)}
	if tk != nil && tk.Position != nil {
		p.Line, p.Column = max(1, tk.Position.Line), max(1, tk.Position.Column)
	}
	return p
}

func (f *File) at(n ast.Node) string {
	p := f.problem(n, "", "")
	return fmt.Sprintf("%s:%d:%d", f.Name, p.Line, p.Column)
}

// start is a node's first token: that of a mapping is its first key.
func start(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return start(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return start(n.Key)
	}
	return n.GetToken()
}
