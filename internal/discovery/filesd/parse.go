package filesd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// The labels that have a meaning here. Other labels that begin with two
// underscores are Prometheus' own business and dropped.
const (
	labelScheme = "__scheme__"
	labelPath   = "__pprof_path__"
)

// maxTargets bounds one file; its anchors could multiply without end.
const maxTargets = 20_000

// entry is a target as written, and where.
type entry struct {
	text string
	line int
}

// group is one element of the file's list.
type group struct {
	line    int
	targets []entry
	labels  map[string]string
}

// lineError is a complaint about a line of the file.
type lineError struct {
	line int
	msg  string
}

func (e *lineError) Error() string { return e.msg }

func at(line int, format string, args ...any) error {
	return &lineError{line, fmt.Sprintf(format, args...)}
}

// Parse reads a whole file or, at the first thing that is wrong, nothing of it.
// Errors name the line: "targets.yml:7: …".
func Parse(name string, data []byte) (targets []ops.Target, err error) {
	var groups []group
	if filepath.Ext(name) == ".json" {
		groups, err = parseJSON(data)
	} else {
		groups, err = parseYAML(data)
	}
	if err == nil {
		targets, err = resolve(groups)
	}
	if err == nil {
		return targets, nil
	}
	var le *lineError
	if errors.As(err, &le) {
		return nil, ops.Errorf(ops.Invalid, "%s:%d: %s", name, le.line, le.msg)
	}
	return nil, ops.Errorf(ops.Invalid, "%s: %w", name, err)
}

const shape = `write a list of {"targets": ["host:port"], "labels": {"service": "name"}}`

// resolve turns groups into targets.
func resolve(groups []group) ([]ops.Target, error) {
	targets := []ops.Target{}
	seen := map[string]int{}
	for _, g := range groups {
		for _, e := range g.targets {
			t, err := target(e.text, g.labels)
			if err != nil {
				return nil, at(e.line, "target %q: %v", e.text, err)
			}
			if first, twice := seen[t.URL]; twice {
				return nil, at(e.line, "target %q: line %d lists it already: list it once", e.text, first)
			}
			seen[t.URL] = e.line
			if targets = append(targets, t); len(targets) > maxTargets {
				return nil, at(e.line, "more than %d targets: split the file", maxTargets)
			}
		}
	}
	return targets, nil
}

func target(text string, labels map[string]string) (ops.Target, error) {
	first := func(names ...string) string {
		for _, n := range names {
			if labels[n] != "" {
				return labels[n]
			}
		}
		return ""
	}
	scheme := first(labelScheme)
	if scheme == "" {
		scheme = "http"
	}
	switch scheme {
	case "http", "https", "grpc", "grpcs":
	default:
		return ops.Target{}, fmt.Errorf("label %s is %q: use http, https, grpc or grpcs", labelScheme, scheme)
	}
	if strings.ContainsAny(text, "/?#@ ") || text == "" {
		return ops.Target{}, fmt.Errorf("write host:port; the scheme goes into the label %s and the path into %s", labelScheme, labelPath)
	}
	if host, port, err := net.SplitHostPort(text); err == nil && (host == "" || port == "") {
		return ops.Target{}, errors.New("write host:port; one of them is missing")
	}
	t := ops.Target{
		Project: ops.ProjectName(first("ops_project", "project")),
		Service: ops.ServiceName(first("ops_service", "service", "job")),
		URL:     scheme + "://" + text,
	}
	if t.Service == "" {
		return t, errors.New("no service: add a label service, ops_service or job")
	}
	if scheme == "http" || scheme == "https" {
		path := first(labelPath)
		if path == "" {
			path = discovery.DefaultPprofPath
		}
		if !strings.HasPrefix(path, "/") {
			return t, fmt.Errorf("label %s is %q: begin it with a slash", labelPath, path)
		}
		t.URL += path
	}
	for k, v := range labels {
		switch {
		case strings.HasPrefix(k, "__"), k == "ops_project", k == "project", k == "ops_service", k == "service":
		default:
			if t.Labels == nil {
				t.Labels = map[string]string{}
			}
			t.Labels[k] = v
		}
	}
	return discovery.Normalize(t)
}

func parseJSON(data []byte) ([]group, error) {
	d := &jsonReader{data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	groups := []group{}
	err := d.list(func(line int) error {
		g := group{line: line}
		err := d.object(func(key string, line int) error {
			switch key {
			case "targets":
				return d.list(func(int) error {
					s, line, err := d.text()
					g.targets = append(g.targets, entry{s, line})
					return err
				})
			case "labels":
				g.labels = map[string]string{}
				return d.object(func(k string, _ int) error {
					v, _, err := d.text()
					g.labels[k] = v
					return err
				})
			}
			return at(line, "unknown field %q: a group has only targets and labels", key)
		})
		groups = append(groups, g)
		return err
	})
	if err != nil {
		return nil, d.explain(err)
	}
	if _, err := d.dec.Token(); err != io.EOF {
		return nil, at(d.line(), "there is something after the list: %s", shape)
	}
	return groups, nil
}

// jsonReader walks tokens, because only they tell where a value stands.
type jsonReader struct {
	data []byte
	dec  *json.Decoder
	seen int // offset up to which lines were counted
	n    int // newlines before it
}

// line is that of the last token's end.
func (r *jsonReader) line() int {
	off := min(int(r.dec.InputOffset()), len(r.data))
	r.n += bytes.Count(r.data[r.seen:off], []byte{'\n'})
	r.seen = off
	return r.n + 1
}

func (r *jsonReader) explain(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return at(1+bytes.Count(r.data[:min(int(syntax.Offset), len(r.data))], []byte{'\n'}), "not JSON: %v", err)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return at(1+bytes.Count(r.data, []byte{'\n'}), "not JSON: the file ends too early")
	}
	return err
}

func (r *jsonReader) list(each func(line int) error) error {
	if err := r.open('['); err != nil {
		return err
	}
	for r.dec.More() {
		if err := each(r.line()); err != nil {
			return err
		}
	}
	_, err := r.dec.Token()
	return err
}

func (r *jsonReader) object(each func(key string, line int) error) error {
	if err := r.open('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for r.dec.More() {
		key, line, err := r.text()
		if err != nil {
			return err
		}
		if seen[key] {
			return at(line, "field %q is there twice", key)
		}
		seen[key] = true
		if err := each(key, line); err != nil {
			return err
		}
	}
	_, err := r.dec.Token()
	return err
}

func (r *jsonReader) open(want json.Delim) error {
	t, err := r.dec.Token()
	if err != nil {
		return err
	}
	if t != want {
		return at(r.line(), "%v where a %s should be: %s", show(t), map[json.Delim]string{'[': "list", '{': "map"}[want], shape)
	}
	return nil
}

func (r *jsonReader) text() (string, int, error) {
	t, err := r.dec.Token()
	if err != nil {
		return "", 0, err
	}
	s, ok := t.(string)
	if !ok {
		return "", 0, at(r.line(), "%v where a string should be: %s", show(t), shape)
	}
	return s, r.line(), nil
}

func show(t json.Token) string {
	switch t := t.(type) {
	case json.Delim:
		return map[json.Delim]string{'[': "a list", '{': "a map"}[t]
	case string:
		return fmt.Sprintf("%q", t)
	case nil:
		return "null"
	}
	return fmt.Sprint(t)
}

// parseYAML walks the syntax tree, because only it tells where a value stands.
func parseYAML(data []byte) (groups []group, err error) {
	// The parser is a foreign one that reads foreign bytes: should it panic, the
	// last good list must stay.
	defer func() {
		if p := recover(); p != nil {
			groups, err = nil, fmt.Errorf("not YAML: the parser broke on it (%v)", p)
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		var ye yaml.Error
		if errors.As(err, &ye) && ye.GetToken() != nil {
			return nil, at(ye.GetToken().Position.Line, "not YAML: %s", ye.GetMessage())
		}
		return nil, fmt.Errorf("not YAML: %w", err)
	}
	if len(file.Docs) > 1 && file.Docs[1].Body != nil {
		return nil, at(line(file.Docs[1].Body), "a second document: write one list")
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return []group{}, nil // an empty file lists nothing
	}
	w := &yamlWalker{anchors: map[string]ast.Node{}}
	items, err := w.list(file.Docs[0].Body)
	if err != nil {
		return nil, err
	}
	total := 0
	for _, item := range items {
		g, err := w.group(item)
		if err != nil {
			return nil, err
		}
		if total += len(g.targets); total > maxTargets {
			return nil, at(g.line, "more than %d targets: split the file", maxTargets)
		}
		groups = append(groups, g)
	}
	return groups, nil
}

type yamlWalker struct{ anchors map[string]ast.Node }

func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1
	}
	return n.GetToken().Position.Line
}

// value looks through anchors, aliases and tags.
func (w *yamlWalker) value(n ast.Node) (ast.Node, error) {
	for range 10 {
		switch v := n.(type) {
		case *ast.AnchorNode:
			w.anchors[v.Name.String()] = v.Value
			n = v.Value
		case *ast.AliasNode:
			target, ok := w.anchors[v.Value.String()]
			if !ok {
				return nil, at(line(n), "alias *%s has no anchor before it", v.Value.String())
			}
			n = target
		case *ast.TagNode:
			n = v.Value
		default:
			return n, nil
		}
	}
	return nil, at(line(n), "too many aliases of aliases")
}

func (w *yamlWalker) list(n ast.Node) ([]ast.Node, error) {
	n, err := w.value(n)
	if err != nil {
		return nil, err
	}
	if s, ok := n.(*ast.SequenceNode); ok {
		return s.Values, nil
	}
	return nil, at(line(n), "%s where a list should be: %s", showYAML(n), shape)
}

func (w *yamlWalker) object(n ast.Node, each func(key string, v ast.Node, line int) error) error {
	n, err := w.value(n)
	if err != nil {
		return err
	}
	m, ok := n.(ast.MapNode)
	if !ok {
		return at(line(n), "%s where a map should be: %s", showYAML(n), shape)
	}
	seen := map[string]bool{}
	for it := m.MapRange(); it.Next(); {
		key, at1 := it.Key().(ast.Node), 0
		at1 = line(key)
		name, _, err := w.text(key)
		if err != nil {
			return err
		}
		if seen[name] {
			return at(at1, "field %q is there twice", name)
		}
		seen[name] = true
		if err := each(name, it.Value(), at1); err != nil {
			return err
		}
	}
	return nil
}

func (w *yamlWalker) text(n ast.Node) (string, int, error) {
	n, err := w.value(n)
	if err != nil {
		return "", 0, err
	}
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, line(n), nil
	case *ast.LiteralNode:
		return strings.TrimSpace(v.Value.Value), line(n), nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, line(n), nil // as written: version: 1.20
	}
	return "", 0, at(line(n), "%s where a string should be: %s", showYAML(n), shape)
}

func (w *yamlWalker) group(n ast.Node) (group, error) {
	g := group{line: line(n)}
	err := w.object(n, func(key string, v ast.Node, at1 int) error {
		switch key {
		case "targets":
			items, err := w.list(v)
			if err != nil {
				return err
			}
			if len(items) > maxTargets {
				return at(at1, "more than %d targets: split the file", maxTargets)
			}
			for _, item := range items {
				s, line, err := w.text(item)
				if err != nil {
					return err
				}
				g.targets = append(g.targets, entry{s, line})
			}
			return nil
		case "labels":
			g.labels = map[string]string{}
			return w.object(v, func(k string, v ast.Node, _ int) error {
				s, _, err := w.text(v)
				g.labels[k] = s
				return err
			})
		}
		return at(at1, "unknown field %q: a group has only targets and labels", key)
	})
	return g, err
}

func showYAML(n ast.Node) string {
	switch n.(type) {
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "a map"
	case *ast.NullNode, nil:
		return "nothing"
	}
	return fmt.Sprintf("%q", strings.TrimSpace(n.String()))
}
