package rules

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/opscenter/opscenter/internal/ops"
)

// MaxFileBytes is far above any list of rules that a person keeps by hand.
const MaxFileBytes = 256 << 10

// maxRules of one file.
const maxRules = 64

// Def is one rule as a file has it.
type Def struct {
	ops.Rule
	About   string
	Enabled bool
	// Project and Service are patterns with *; empty = any. Labels must all match.
	Project, Service string
	Labels           map[string]string
	// Notify says that somebody wants to be told when it has fired.
	Notify bool
	File   string // base name
	Line   int    // of its beginning
	// When, Do and Limits are the conditions as words.
	When, Limits string
	Do           []string
}

// Of reports whether the rule is for an instance.
func (d *Def) Of(i ops.Instance) bool {
	if i.Agentless || !glob(d.Project, string(i.Project)) || !glob(d.Service, string(i.Service)) {
		return false
	}
	for k, want := range d.Labels {
		if got, has := i.Labels[k]; !has || !glob(want, got) {
			return false
		}
	}
	return true
}

func glob(pattern, s string) bool {
	ok, err := path.Match(cmp.Or(pattern, "*"), s)
	return err == nil && ok
}

// FileError is what is wrong with a file, and where.
type FileError struct {
	File string
	Line int
	What string
}

func (e *FileError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.What) }

type ruleYAML struct {
	Name    string     `yaml:"name"`
	About   string     `yaml:"about"`
	Enabled *bool      `yaml:"enabled"`
	For     forYAML    `yaml:"for"`
	When    whenYAML   `yaml:"when"`
	Do      []any      `yaml:"do"`
	Limits  limitsYAML `yaml:"limits"`
}

type forYAML struct {
	Project string            `yaml:"project"`
	Service string            `yaml:"service"`
	Labels  map[string]string `yaml:"labels"`
}

type whenYAML struct {
	Metric     string  `yaml:"metric"`
	Above      any     `yaml:"above"`
	Below      any     `yaml:"below"`
	TimesUsual float64 `yaml:"times_usual"`
	Hold       string  `yaml:"hold"`

	Slow     string `yaml:"slow"`
	Longer   string `yaml:"longer"`
	Quantile string `yaml:"quantile"`
	Times    int    `yaml:"times"`
	Within   string `yaml:"within"`
}

type limitsYAML struct {
	Cooldown  string `yaml:"cooldown"`
	Times     int    `yaml:"times"`
	Per       string `yaml:"per"`
	StopAfter int    `yaml:"stop_after"`
	MaxMemory any    `yaml:"max_memory"`
	MaxCPU    any    `yaml:"max_cpu"`
}

// The limits of a rule that names none: rather too seldom than too often.
const (
	defaultCooldown  = 10 * time.Minute
	defaultTimes     = 3
	defaultPer       = time.Hour
	defaultMaxMemory = 0.95
)

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// Parse reads a file of rules. Unknown fields are refused, so that a misspelt one
// is not silently ignored; the error is a *FileError.
func Parse(file string, text []byte) ([]Def, error) {
	if len(text) > MaxFileBytes {
		return nil, &FileError{file, 1, fmt.Sprintf("it is larger than %d KiB: split it", MaxFileBytes>>10)}
	}
	tokens := lexer.Tokenize(string(text))
	if err := bounded(file, tokens); err != nil {
		return nil, err
	}
	tree, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, atToken(file, 1, err)
	}
	p := &reader{file: file, lines: strings.Split(string(text), "\n")}
	var out []Def
	for _, doc := range tree.Docs {
		nodes, err := p.list(doc.Body)
		if err != nil {
			return nil, err
		}
		for i, node := range nodes {
			end := len(p.lines)
			if i+1 < len(nodes) {
				end = lineOf(nodes[i+1]) - 1
			}
			d, err := p.rule(node, end)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(out, func(o Def) bool { return o.Name == d.Name }) {
				return nil, &FileError{file, d.Line, fmt.Sprintf("there are two rules named %s", d.Name)}
			}
			if out = append(out, d); len(out) > maxRules {
				return nil, &FileError{file, d.Line, fmt.Sprintf("more than %d rules in one file: split it", maxRules)}
			}
		}
	}
	return out, nil
}

// maxDepth of lists and mappings in each other; a rule has five. The parser's time
// grows with the square of the depth, and 128 KiB of "[" took it eleven seconds.
const maxDepth = 32

// bounded refuses what takes the parser long: depth, and aliases, of which a few
// lines can stand for gigabytes.
func bounded(file string, tokens token.Tokens) error {
	depth, line, entries := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, entries = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			entries++
		case token.AliasType, token.MergeKeyType:
			return &FileError{file, line, "aliases (*name) and merges (<<) are not for rules: write it out"}
		}
		if depth+entries > maxDepth {
			return &FileError{file, line, fmt.Sprintf("more than %d lists and mappings in each other are no rule", maxDepth)}
		}
	}
	return nil
}

type reader struct {
	file  string
	lines []string
	// from and to are the lines of the rule that is read now.
	from, to int
}

// atToken turns an error of the YAML library into one with a place.
func atToken(file string, line int, err error) error {
	var syntax yaml.Error
	if errors.As(err, &syntax) {
		if syntax.GetToken() != nil {
			line = syntax.GetToken().Position.Line
		}
		return &FileError{file, line, syntax.GetMessage()}
	}
	return &FileError{file, line, err.Error()}
}

func lineOf(n ast.Node) int {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		n = m.Values[0].Key
	} else if v, ok := n.(*ast.MappingValueNode); ok {
		n = v.Key
	}
	return n.GetToken().Position.Line
}

// list finds the rules of a document.
func (p *reader) list(body ast.Node) ([]ast.Node, error) {
	if body == nil {
		return nil, nil
	}
	var values []*ast.MappingValueNode
	switch n := body.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	case *ast.CommentGroupNode, *ast.NullNode:
		return nil, nil
	default:
		return nil, &FileError{p.file, lineOf(body), `write "rules:" and a list below it`}
	}
	var out []ast.Node
	for _, v := range values {
		if v.Key.String() != "rules" {
			return nil, &FileError{p.file, lineOf(v), fmt.Sprintf(`unknown field %q: write "rules:" and a list below it`, v.Key.String())}
		}
		seq, ok := v.Value.(*ast.SequenceNode)
		if _, null := v.Value.(*ast.NullNode); null {
			continue
		}
		if !ok {
			return nil, &FileError{p.file, lineOf(v), `"rules" is a list: begin each with "- name:"`}
		}
		out = append(out, seq.Values...)
	}
	return out, nil
}

// bad is an error at the line of a key of the rule that is read.
func (p *reader) bad(key, format string, args ...any) error {
	at := p.from
	word := regexp.MustCompile(`^[\s\-{,]*.*?\b` + regexp.QuoteMeta(key) + `\s*:`)
	for i := p.from; i <= p.to && i <= len(p.lines); i++ {
		if word.MatchString(p.lines[i-1]) {
			at = i
			break
		}
	}
	return &FileError{p.file, at, fmt.Sprintf(format, args...)}
}

func (p *reader) rule(n ast.Node, end int) (d Def, err error) {
	p.from, p.to = lineOf(n), end
	var y ruleYAML
	if err := yaml.NodeToValue(n, &y, yaml.DisallowUnknownField()); err != nil {
		return d, atToken(p.file, p.from, err)
	}
	d = Def{About: y.About, Enabled: y.Enabled == nil || *y.Enabled, Project: y.For.Project, Service: y.For.Service, Labels: y.For.Labels, File: p.file, Line: p.from}
	d.Name = y.Name
	if !nameForm.MatchString(y.Name) {
		return d, p.bad("name", "a rule is named with up to 64 lower-case letters, digits and hyphens, not %q", y.Name)
	}
	for key, pattern := range map[string]string{"project": d.Project, "service": d.Service} {
		if _, err := path.Match(pattern, ""); err != nil {
			return d, p.bad(key, "%q is no pattern: * stands for any text", pattern)
		}
	}
	if d.Trigger, err = p.trigger(y.When); err != nil {
		return d, err
	}
	if err := p.actions(&d, y.Do); err != nil {
		return d, err
	}
	if d.Bounds, err = p.bounds(y.Limits); err != nil {
		return d, err
	}
	d.words()
	sum := sha256.Sum256(fmt.Appendf(nil, "%v %v %v", d.Trigger, d.Actions, d.Bounds))
	d.Revision = hex.EncodeToString(sum[:6])
	return d, nil
}

func (p *reader) trigger(w whenYAML) (t ops.RuleTrigger, err error) {
	switch {
	case w.Metric == "" && w.Slow == "":
		return t, p.bad("when", `"when" needs a metric or a name of slow calls: write "metric: goroutines" or "slow: place-bet"`)
	case w.Metric != "" && w.Slow != "":
		return t, p.bad("slow", "a rule watches a metric or slow calls, not both: make two rules")
	case w.Slow != "":
		return p.slow(w)
	case w.Longer != "" || w.Quantile != "" || w.Times != 0 || w.Within != "":
		return t, p.bad("metric", `"longer", "quantile", "times" and "within" are of slow calls: a metric has "above" or "below", "times_usual" and "hold"`)
	}
	unit, known := unitOf(w.Metric)
	if !known {
		var names []string
		for _, m := range ops.RuleMetrics() {
			names = append(names, m.Name)
		}
		return t, p.bad("metric", "unknown metric %q: use one of %s", w.Metric, strings.Join(names, ", "))
	}
	t = ops.RuleTrigger{Metric: w.Metric, TimesUsual: w.TimesUsual}
	if w.Above != nil && w.Below != nil {
		return t, p.bad("below", `"above" or "below", not both`)
	}
	if w.Above == nil && w.Below == nil && w.TimesUsual == 0 {
		return t, p.bad("metric", `what of %s? Write "above", "below" or "times_usual"`, w.Metric)
	}
	if w.TimesUsual != 0 && (w.TimesUsual < 1.1 || w.TimesUsual > 1000 || w.Below != nil) {
		return t, p.bad("times_usual", `"times_usual" is 1.1 to 1000, and not with "below"`)
	}
	if w.Above != nil {
		if t.Level, err = quantity(w.Above, unit); err != nil {
			return t, p.bad("above", "above: %v", err)
		}
	}
	if w.Below != nil {
		t.Below = true
		if t.Level, err = quantity(w.Below, unit); err != nil {
			return t, p.bad("below", "below: %v", err)
		}
	}
	t.Hold, err = p.time("hold", w.Hold, 0, 0, time.Hour)
	return t, err
}

func (p *reader) slow(w whenYAML) (t ops.RuleTrigger, err error) {
	if w.Above != nil || w.Below != nil || w.TimesUsual != 0 || w.Hold != "" {
		return t, p.bad("slow", `slow calls have "longer", "times" or "quantile", and "within": the others are of metrics`)
	}
	t = ops.RuleTrigger{Signal: w.Slow, Times: max(w.Times, 1)}
	if w.Times < 0 || w.Times > 1000 {
		return t, p.bad("times", "times is 1 to 1000")
	}
	if w.Longer == "" {
		return t, p.bad("slow", `longer than what? Write "longer: 50ms"`)
	}
	if t.Longer, err = p.time("longer", w.Longer, 0, time.Microsecond, time.Hour); err != nil {
		return t, err
	}
	if t.Within, err = p.time("within", w.Within, time.Minute, time.Second, time.Hour); err != nil {
		return t, err
	}
	if w.Quantile != "" {
		q, err := strconv.ParseFloat(strings.TrimPrefix(w.Quantile, "p"), 64)
		if err != nil || q <= 0 || q >= 100 {
			return t, p.bad("quantile", "%q is no quantile: write one such as p99", w.Quantile)
		}
		t.Quantile = q / 100
	}
	return t, nil
}

func (p *reader) time(key, text string, otherwise, least, most time.Duration) (time.Duration, error) {
	if text == "" {
		return otherwise, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		return 0, p.bad(key, "%s: %q is no time from %v to %v: write one such as 10s or 2m", key, text, least, most)
	}
	return d, nil
}

func unitOf(metric string) (ops.RuleUnit, bool) {
	for _, m := range ops.RuleMetrics() {
		if m.Name == metric {
			return m.Unit, true
		}
	}
	return "", false
}

var sizes = map[string]float64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 1e3, "MB": 1e6, "GB": 1e9}

var quantityForm = regexp.MustCompile(`^([0-9.]+)\s*([A-Za-zµ%]*)(?:/(min|s|h))?$`)

// quantity reads a level in its metric's unit: "80 %", "512MiB", "50ms", "5MiB/min", 1000.
func quantity(v any, unit ops.RuleUnit) (float64, error) {
	text := strings.TrimSpace(fmt.Sprint(v))
	m := quantityForm.FindStringSubmatch(text)
	examples := map[ops.RuleUnit]string{ops.RuleCount: "1000", ops.RuleShare: "80%", ops.RuleSeconds: "50ms", ops.RuleBytes: "512MiB", ops.RuleByteRate: "5MiB/min"}
	bad := fmt.Errorf("%q is no %s: write one such as %s", text, unit, examples[unit])
	if m == nil {
		return 0, bad
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil || math.IsInf(n, 0) || n <= 0 {
		return 0, bad
	}
	switch unit {
	case ops.RuleShare:
		if m[2] == "%" && m[3] == "" && n <= 1000 {
			return n / 100, nil
		}
	case ops.RuleCount:
		if m[2] == "" && m[3] == "" {
			return n, nil
		}
	case ops.RuleSeconds:
		if d, err := time.ParseDuration(strings.ReplaceAll(text, " ", "")); err == nil {
			return d.Seconds(), nil
		}
	case ops.RuleBytes:
		if f, ok := sizes[m[2]]; ok && m[3] == "" {
			return n * f, nil
		}
	case ops.RuleByteRate:
		per := map[string]float64{"s": 1, "min": 60, "h": 3600}
		if f, ok := sizes[m[2]]; ok && m[3] != "" {
			return n * f / per[m[3]], nil
		}
	}
	return 0, bad
}

func (p *reader) actions(d *Def, steps []any) error {
	if len(steps) == 0 {
		return p.bad("do", `what is it to do? Write "do:" and a list of flight, snapshot, pair, capture, notify`)
	}
	for _, step := range steps {
		word, with := "", any(nil)
		switch s := step.(type) {
		case string:
			word = s
		case map[string]any:
			if len(s) != 1 {
				return p.bad("do", "one step a line: %v", s)
			}
			for k, v := range s {
				word, with = k, v
			}
		default:
			return p.bad("do", "%v is no step", step)
		}
		if err := p.action(d, word, with); err != nil {
			return err
		}
	}
	return nil
}

func (p *reader) action(d *Def, word string, with any) (err error) {
	a := ops.RuleAction{Kind: ops.RuleActionKind(word)}
	switch word {
	case "diagnose": // every capture is, when it has arrived
		return nil
	case "notify":
		d.Notify = true
		return nil
	case "flight":
		if a.Last, err = p.time("flight", text(with, "5s"), 0, ops.MinDuration, ops.MaxLast-time.Second); err != nil {
			return err
		}
	case "pair":
	case "snapshot":
		if a.Kinds, err = p.kinds("snapshot", with, ops.KindHeap, ops.KindGoroutine); err != nil {
			return err
		}
	case "capture":
		opts, isMap := with.(map[string]any)
		if !isMap {
			opts = map[string]any{"for": text(with, "10s")}
		}
		for k, v := range opts {
			switch k {
			case "for":
				a.For, err = p.time("capture", text(v, ""), 0, ops.MinDuration, 2*time.Minute)
			case "kinds":
				a.Kinds, err = p.kinds("capture", v, ops.FullSet()...)
			default:
				err = p.bad("capture", `unknown field %q of capture: use "for" and "kinds"`, k)
			}
			if err != nil {
				return err
			}
		}
		if a.For == 0 {
			a.For = 10 * time.Second
		}
	default:
		return p.bad("do", "unknown step %q: use flight, snapshot, pair, capture, diagnose or notify", word)
	}
	d.Actions = append(d.Actions, a)
	return nil
}

func text(v any, otherwise string) string {
	if v == nil {
		return otherwise
	}
	return fmt.Sprint(v)
}

func (p *reader) kinds(key string, v any, allowed ...ops.Kind) (out []ops.Kind, err error) {
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, one := range list {
		k := ops.Kind(fmt.Sprint(one))
		if !slices.Contains(allowed, k) {
			return nil, p.bad(key, "%s takes no %q: use %v", key, k, allowed)
		}
		out = append(out, k)
	}
	return out, nil
}

func (p *reader) bounds(l limitsYAML) (b ops.RuleBounds, err error) {
	b = ops.RuleBounds{Budget: cmp.Or(l.Times, defaultTimes), StopAfter: l.StopAfter, MaxMemory: defaultMaxMemory}
	if b.Budget < 1 || b.Budget > 100 {
		return b, p.bad("times", "limits: times is 1 to 100")
	}
	if b.StopAfter < 0 {
		return b, p.bad("stop_after", "stop_after is 1 or more; leave it out for never")
	}
	if b.Cooldown, err = p.time("cooldown", l.Cooldown, defaultCooldown, 10*time.Second, 24*time.Hour); err != nil {
		return b, err
	}
	if b.Per, err = p.time("per", l.Per, defaultPer, time.Minute, 7*24*time.Hour); err != nil {
		return b, err
	}
	for key, c := range map[string]struct {
		in  any
		out *float64
	}{"max_memory": {l.MaxMemory, &b.MaxMemory}, "max_cpu": {l.MaxCPU, &b.MaxCPU}} {
		if c.in == nil {
			continue
		}
		if *c.out, err = quantity(c.in, ops.RuleShare); err != nil || *c.out > 1 {
			return b, p.bad(key, "%s: %v is no share up to 100%%", key, c.in)
		}
	}
	return b, nil
}
